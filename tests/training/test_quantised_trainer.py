"""A trainer from Python on a 4-bit model, with bitsandbytes as it runs on the CPU."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

from llm_jepa import JEPAConfig, JEPATrainer
from tests.tiny import PAIRS, save_tiny_model
from tests.trainers import PAIR_COLUMNS, settings

pytestmark = pytest.mark.usefixtures("deterministic")


def test_qlora_trains_fp32_adapters_and_predictor_tokens_on_a_4_bit_model(tmp_path):
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="float32")
    base = save_tiny_model(tmp_path / "base", hidden_size=64)
    trainer = JEPATrainer(
        base,
        JEPAConfig(**settings(tmp_path / "out", **PAIR_COLUMNS)),
        train_dataset=Dataset.from_list(PAIRS),
        quantization_config=quantization,
        peft_config=LoraConfig(task_type="CAUSAL_LM"),
    )
    start_KD = trainer.predictor.vectors_KD.detach().clone()
    trainable = {name: parameter for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert {parameter.dtype for parameter in trainable.values()} == {torch.float32}
    before = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    trainer.train()
    assert trainer.model.get_base_model().is_loaded_in_4bit
    assert not torch.equal(trainer.predictor.vectors_KD, start_KD)
    unmoved = [name for name, parameter in trainable.items() if torch.equal(parameter, before[name])]
    assert unmoved == []


def test_4_bit_weights_still_train_after_an_evaluation(tmp_path):
    """bitsandbytes repacks them on CPUs with AVX512-BF16; on others this shows only that they train."""
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="bfloat16")
    trainer = JEPATrainer(
        save_tiny_model(tmp_path / "base", hidden_size=64),
        JEPAConfig(**settings(tmp_path / "out", **PAIR_COLUMNS)),
        train_dataset=Dataset.from_list(PAIRS),
        eval_dataset=Dataset.from_list(PAIRS),
        quantization_config=quantization,
        peft_config=LoraConfig(task_type="CAUSAL_LM"),
    )
    trainable = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    trainer.evaluate()
    trainer.train()
    assert [name for name, parameter in trainable.items() if torch.equal(parameter, before[name])] == []
