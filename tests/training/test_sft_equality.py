"""`jepa_weight: 0` is TRL's `SFTTrainer` bit for bit; where that trains in 16 bits, with those weights in float32.

Models in float32, with and without LoRA, are in `tests/test_trainer.py`.
"""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.models.trainable_weights import keep_fp32_master_weights
from tests.tiny import save_tiny_model
from tests.trainers import CHAT, assert_same_weights, settings, step_losses, weights

pytestmark = pytest.mark.usefixtures("deterministic")
BF16 = {"model_init_kwargs": {"dtype": "bfloat16"}}
LORA = {"peft_config": LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.1, target_modules="all-linear")}
WHOLE_HEAD = {"peft_config": LoraConfig(task_type="CAUSAL_LM", modules_to_save=["lm_head"])}
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
EQUAL = {
    "bf16 autocast": {"bf16": True},
    "LoRA on a base in bfloat16": BF16 | LORA | {"bf16": True},
}
IN_FLOAT32 = {
    "a model in bfloat16": BF16,
    "a model in bfloat16 with autocast": BF16 | {"bf16": True},
    "LoRA on a base in bfloat16 with a whole head": BF16 | WHOLE_HEAD | {"bf16": True},
    "4-bit QLoRA": BF16 | LORA | {"quantization_config": NF4, "bf16": True},
    "8-bit QLoRA": BF16 | LORA | {"quantization_config": {"load_in_8bit": True}},
}
KEYWORDS = ("peft_config", "quantization_config")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("model"), hidden_size=64)


def built(kind, model, tmp_path, options, **more):
    """A trainer of TRL or ours. TRL changes the configurations that it is given, so each gets its own."""
    keywords = {key: options[key] for key in KEYWORDS if key in options}
    if "quantization_config" in options:
        pytest.importorskip("bitsandbytes")
        keywords["quantization_config"] = BitsAndBytesConfig(**options["quantization_config"])
    own = {key: value for key, value in options.items() if key not in KEYWORDS}
    config = (SFTConfig if kind is SFTTrainer else JEPAConfig)(**settings(tmp_path, **own), **more)
    return kind(model, config, train_dataset=Dataset.from_list(CHAT), **keywords)


def assert_same_run(ours, sft) -> None:
    for name in ("loss", "grad_norm"):
        assert step_losses(ours, name) == step_losses(sft, name), name
    assert_same_weights(weights(ours.model), weights(sft.model))


@pytest.mark.parametrize("case", EQUAL)
def test_weight_zero_is_trls_trainer_bit_for_bit(case, model, tmp_path):
    sft = built(SFTTrainer, model, tmp_path, EQUAL[case])
    sft.train()
    ours = built(JEPATrainer, model, tmp_path, EQUAL[case], jepa_weight=0.0)
    ours.train()
    assert_same_run(ours, sft)


@pytest.mark.parametrize("case", IN_FLOAT32)
def test_where_trl_trains_in_16_bits_weight_zero_is_it_with_these_weights_in_float32(case, model, tmp_path):
    sft = built(SFTTrainer, model, tmp_path, IN_FLOAT32[case])
    trained = [parameter for parameter in sft.model.parameters() if parameter.requires_grad]
    assert torch.bfloat16 in {parameter.dtype for parameter in trained}
    keep_fp32_master_weights(sft.model)
    sft.train()
    ours = built(JEPATrainer, model, tmp_path, IN_FLOAT32[case], jepa_weight=0.0)
    ours.train()
    assert_same_run(ours, sft)


@pytest.mark.parametrize("case", IN_FLOAT32)
def test_every_arm_trains_in_float32(case, model, tmp_path):
    """The LM-only arm and the JEPA arm have the same weights to begin with."""
    states = []
    for weight in (0.0, 1.0):
        trainer = built(JEPATrainer, model, tmp_path, IN_FLOAT32[case], jepa_weight=weight)
        trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
        assert {parameter.dtype for parameter in trained} == {torch.float32}
        states.append(weights(trainer.model))
    assert_same_weights(*states)
