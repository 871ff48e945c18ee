"""The attention back-ends that need a GPU, against rows under sdpa: embeddings, log-probabilities and gradients."""

import importlib.util

import pytest
import torch

from llm_jepa.layouts import FlatLayout, Layout, PackedLayout, RowsLayout
from llm_jepa.layouts.mask_probe import probe_flat_form, probe_mask_form
from llm_jepa.layouts.masks import MaskForm
from tests.architectures import tiny_model
from tests.view_models import PAD, Computed, Setting, gradients_of, prepared, total_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
SETTINGS = [Setting("prefix"), Setting("alone", target="stop_gradient")]
SIZES = {"hidden_size": 64, "head_dim": 16}  # the kernels take heads of 16 and more


def computed(name: str, attention: str, layout: Layout, form: MaskForm, setting: Setting, bf16: bool) -> Computed:
    model = tiny_model(name, **SIZES)
    run = prepared(model, layout, form, setting)
    run.model.set_attn_implementation(attention)
    run.model.cuda()
    if run.predictor is not None:
        run.predictor.cuda()
    with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
        output = run.model(**run.inputs(), fused_lm_head=True)
    prediction_ND, target_ND = output.prediction_ND.float().cpu(), output.target_ND.float().cpu()
    log_prob_sum = output.log_probs.float().sum().cpu()
    gradients = gradients_of(total_of(prediction_ND, target_ND, log_prob_sum), run.model, run.predictor)
    return Computed(prediction_ND, target_ND, log_prob_sum, {key: value.cpu() for key, value in gradients.items()})


def assert_close(actual: Computed, expected: Computed, tolerance: float) -> None:
    """Each tensor to `tolerance` of its own norm."""
    pairs = [(actual.prediction_ND, expected.prediction_ND), (actual.target_ND, expected.target_ND)]
    assert actual.gradients.keys() == expected.gradients.keys()
    pairs += [(gradient, expected.gradients[name]) for name, gradient in actual.gradients.items()]
    for one, other in pairs:
        assert (one - other).norm() <= tolerance * other.norm() + 1e-5


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3"])
def test_flex_attention_packed_equals_sdpa_rows(name: str, setting: Setting):
    """In float32, with the block mask compiled: plain, windowed and by layer type."""
    model = tiny_model(name, **SIZES)
    model.config._attn_implementation = "flex_attention"
    form = probe_mask_form(model).form
    assert form is not None
    assert form.values == "block"
    actual = computed(name, "flex_attention", PackedLayout(PAD), form, setting, bf16=False)
    expected = computed(name, "sdpa", RowsLayout(PAD), MaskForm("padding"), setting, bf16=False)
    assert_close(actual, expected, tolerance=1e-2)  # the kernel may multiply in TF32


def test_block_mask_writes_out_no_pair_of_tokens():
    """Eight rows of 4096 tokens would be 128 MiB as booleans; compiled, the mask is made in a few."""
    ends_BL = torch.full((8, 4096), 4096, device="cuda")
    position_ids_BL = torch.arange(4096, device="cuda").repeat(8, 1)
    form = MaskForm("windowed", "block", 128)
    form.build(ends_BL, position_ids_BL)  # compiles
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    form.build(ends_BL, position_ids_BL)
    assert torch.cuda.max_memory_allocated() - before < 16 * 2**20


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is None, reason="needs flash-attn")
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2"])
def test_flash_attention_flat_equals_sdpa_rows(name: str, setting: Setting):
    """In bf16, which is all that the kernel computes in."""
    model = tiny_model(name, **SIZES)
    model.config._attn_implementation = "flash_attention_2"
    form = probe_flat_form(model).form
    assert form == MaskForm("positions")
    actual = computed(name, "flash_attention_2", FlatLayout(PAD), form, setting, bf16=True)
    expected = computed(name, "sdpa", RowsLayout(PAD), MaskForm("padding"), setting, bf16=True)
    assert_close(actual, expected, tolerance=0.1)
