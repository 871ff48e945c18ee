"""Packed layers compute what PyTorch's do. A failure after an update of PyTorch: oneDNN's operators have moved."""

import os
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from llm_jepa.inference.draft_length import FixedLength
from llm_jepa.inference.drafting import Drafter
from llm_jepa.inference.packed_linear import PackedLinear, packed_copy
from tests.architectures import tiny_model
from tests.inference.drafters import GREEDY, prompts, trained_dynamics


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_packed_layer_equals_the_layer(bias, dtype, tolerance):
    linear = nn.Linear(24, 40, bias=bias).to(dtype)
    packed = PackedLinear(linear)
    torch.testing.assert_close(packed.weight, linear.weight.detach(), rtol=0, atol=0)
    with torch.no_grad():
        for shape in [(1, 1, 24), (1, 5, 24), (3, 70, 24), (0, 24), (24,)]:
            inputs = torch.randn(shape, dtype=dtype)
            torch.testing.assert_close(packed(inputs), linear(inputs), rtol=tolerance, atol=tolerance)
        strided = torch.randn(4, 6, 24, dtype=dtype).transpose(0, 1)
        torch.testing.assert_close(packed(strided), linear(strided), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3", "phi", "mixtral", "lora"])
def test_a_packed_model_writes_the_same_text_plainly_and_drafted(name):
    model = tiny_model("llama" if name == "lora" else name)
    dynamics = trained_dynamics(model)
    if name == "lora":
        model = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False)).eval()
    plain = [model.generate(input_ids=prompt_1S, **GREEDY).tolist() for prompt_1S in prompts()]
    packed = packed_copy(model)
    assert not any(isinstance(module, PackedLinear) for module in model.modules())
    assert any(isinstance(module, PackedLinear) for module in packed.modules())
    assert packed.get_input_embeddings().weight is model.get_input_embeddings().weight
    drafter = Drafter(packed, dynamics, list(range(8)), FixedLength(3))
    for text, prompt_1S in zip(plain, prompts(), strict=True):
        assert packed.generate(input_ids=prompt_1S, **GREEDY).tolist() == text
        assert drafter.generate(prompt_1S, **GREEDY).tolist() == text


def test_a_cpu_that_packs_no_bfloat16_leaves_such_layers_as_they_are():
    """oneDNN behaves as on a CPU with AVX2 alone."""
    script = (
        "import torch; from torch import nn; from llm_jepa.inference.packed_linear import pack_linear_layers\n"
        "for dtype in (torch.float32, torch.bfloat16):\n"
        "    layers = nn.Sequential(nn.Linear(8, 8).to(dtype))\n"
        "    pack_linear_layers(layers)\n"
        "    print(type(layers[0]).__name__, *layers(torch.ones(1, 3, 8, dtype=dtype)).shape)\n"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["PackedLinear 1 3 8", "Linear 1 3 8"]
