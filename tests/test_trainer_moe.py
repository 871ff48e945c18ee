"""Mixtures of experts: the router's term is that of plain fine-tuning, and takes neither weight."""

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedModel
from trl import SFTConfig, SFTTrainer

from llm_jepa import JEPAConfig, JEPATrainer
from tests.architectures import tiny_model
from tests.tiny import PAIRS, tiny_tokenizer

ROUTER_COEFFICIENT = 0.3
ROWS = [
    {
        "prompt": [{"role": "system", "content": "Write the regex."}, {"role": "user", "content": pair["source"]}],
        "completion": [{"role": "assistant", "content": pair["target"]}],
    }
    for pair in PAIRS
]


def tiny_mixture(name: str) -> PreTrainedModel:
    return tiny_model(
        name, vocab_size=320, max_position_embeddings=512, router_aux_loss_coef=ROUTER_COEFFICIENT, pad_token_id=2
    )


def trained(trainer_class: type[SFTTrainer], name: str, tmp_path, **overrides) -> SFTTrainer:
    """Three steps of two micro-batches of three rows and of two, whose lengths and labels differ."""
    config_class = JEPAConfig if trainer_class is JEPATrainer else SFTConfig
    settings = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 2,
        "max_steps": 3,
        "logging_steps": 1,
        "save_strategy": "no",
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    trainer = trainer_class(
        tiny_mixture(name),
        config_class(**settings | overrides),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=tiny_tokenizer(),
    )
    trainer.train()
    return trainer


def logged(trainer: SFTTrainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


@pytest.mark.parametrize(("name", "layout"), [("mixtral", "packed"), ("mixtral", "rows"), ("qwen3-moe", "packed")])
def test_loss_is_its_weighted_parts_and_the_router_term_of_plain_fine_tuning(name: str, layout: str, tmp_path):
    """At learning rate 0 every step meets the same weights, so that each has its counterpart in TRL's run."""
    sft = trained(SFTTrainer, name, tmp_path, learning_rate=0.0)
    ours = trained(JEPATrainer, name, tmp_path, learning_rate=0.0, lm_weight=2.0, jepa_weight=0.5, jepa_layout=layout)
    router_terms = [ROUTER_COEFFICIENT * aux_loss for aux_loss in logged(sft, "aux_loss")]
    parts = zip(logged(ours, "lm_loss"), logged(ours, "jepa_loss"), router_terms, strict=True)
    expected = [2.0 * lm_loss + 0.5 * jepa_loss + router_term for lm_loss, jepa_loss, router_term in parts]

    assert min(router_terms) > 0.1
    assert logged(ours, "aux_loss") == pytest.approx(logged(sft, "aux_loss"), rel=1e-5)
    assert logged(ours, "loss") == pytest.approx(expected, rel=1e-5)
    sft_lm_losses = [loss - term for loss, term in zip(logged(sft, "loss"), router_terms, strict=True)]
    assert logged(ours, "lm_loss") == pytest.approx(sft_lm_losses, rel=1e-5)


def test_weight_zero_is_trls_trainer_bit_for_bit(tmp_path):
    sft = trained(SFTTrainer, "mixtral", tmp_path, learning_rate=1e-2)
    ours = trained(JEPATrainer, "mixtral", tmp_path, learning_rate=1e-2, jepa_weight=0.0)
    for metric in ("loss", "aux_loss", "grad_norm"):
        assert logged(ours, metric) == logged(sft, metric)
        assert len(set(logged(ours, metric))) == 3
    expected = sft.model.state_dict()
    actual = ours.model.state_dict()
    assert actual.keys() == expected.keys()
    assert [key for key in expected if not torch.equal(actual[key], expected[key])] == []
