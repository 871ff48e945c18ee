"""Names of modules that a model does not have are refused before its weights are loaded."""

import pytest
import torch
from peft import LoraConfig
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from llm_jepa.models.adapter_targets import check_adapter_targets
from tests.tiny import tiny_llama


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target_modules": ["q_prj"]},
            r"`lora_target_modules: q_prj` names no module.* Did you mean `q_proj`\?",
        ),
        ({"target_modules": ["q_proj", "v_prj"]}, r"`lora_target_modules: v_prj` names no module"),
        (
            {"target_modules": ["xyz"]},
            r"names no module of the model\. It has down_proj, embed_tokens, gate_proj, ",
        ),
        ({"target_modules": ["q_proj"], "modules_to_save": ["head"]}, "`lora_modules_to_save: head` names no module"),
    ],
)
def test_a_name_that_is_no_module_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        check_adapter_targets(tiny_llama(), LoraConfig(**options))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.q_proj"},
        {"target_modules": ["q_proj", "layers.0.self_attn.v_proj"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ],
)
def test_modules_of_the_model_pass(options):
    check_adapter_targets(tiny_llama(), LoraConfig(**options))


def test_a_model_for_which_peft_has_no_default_needs_names():
    with torch.device("meta"):
        model = Qwen3MoeForCausalLM(Qwen3MoeConfig(num_hidden_layers=1, num_experts=2))
    model.config.model_type = "of-my-own"
    with pytest.raises(ValueError, match="`lora_target_modules` must be given for a model of the type of-my-own"):
        check_adapter_targets(model, LoraConfig())
    check_adapter_targets(model, LoraConfig(target_modules="all-linear"))
