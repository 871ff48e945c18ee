"""Averaged targets in the trainer: a slow reference, the limits, what is averaged and saved."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.objectives.draws import is_dropped
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer

EMA = {"jepa_target": "ema", "ema_decay": 0.5}
LORA = LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, target_modules="all-linear")


def trainer_of(output_dir: Path, peft_config: LoraConfig | None = None, eval_dataset=None, **options) -> JEPATrainer:
    settings = {
        "output_dir": str(output_dir),
        "source_column": "source",
        "target_column": "target",
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return JEPATrainer(
        tiny_llama(),
        JEPAConfig(**settings | options),
        train_dataset=Dataset.from_list(PAIRS),
        eval_dataset=eval_dataset,
        processing_class=tiny_tokenizer(),
        peft_config=peft_config,
    )


def logged(trainer: JEPATrainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def assert_same_training(one: JEPATrainer, other: JEPATrainer) -> None:
    assert logged(one, "jepa_loss") == logged(other, "jepa_loss")
    expected = other.model.state_dict()
    assert [name for name, value in one.model.state_dict().items() if not torch.equal(value, expected[name])] == []


# --- a slow reference


class Record(TrainerCallback):
    """A copy of the model before each step and after the last, and the rows of each step."""

    def __init__(self, trainer: JEPATrainer):
        self.models: list = []
        self.rows: list[list[dict]] = []
        trainer.add_callback(self)
        collate = trainer.data_collator
        trainer.data_collator = lambda rows: self.rows.append(rows) or collate(rows)

    def on_step_begin(self, args, state, control, model, **kwargs):
        self.models.append(plain_copy(model))

    def on_train_end(self, args, state, control, model, **kwargs):
        self.models.append(plain_copy(model))


def plain_copy(model):
    """A model of its own with the same weights and none of the trainer's calls."""
    plain = tiny_llama()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "predictor" not in name})
    return plain


@torch.no_grad()
def embedding(model, ids: list[int], start: int, readout: str, depth: float) -> Tensor:
    """The last hidden state of a sequence, or the mean from its content on, after a share of both layers."""
    hidden_SD = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[round(2 * depth)][0]
    return hidden_SD[-1] if readout == "last" else hidden_SD[start:].mean(dim=0)


def reference_loss(model, averaged, rows: list[dict], options: dict) -> float:
    readout, depth = options.get("jepa_readout", "last"), options.get("target_layer", 1.0)
    predictions = [embedding(model, row["source_ids"], row["source_start"], readout, 1.0) for row in rows]
    targets = [embedding(averaged, row["target_ids"], row["target_start"], readout, depth) for row in rows]
    cosine_NN = F.cosine_similarity(torch.stack(predictions)[:, None], torch.stack(targets)[None], dim=-1)
    if "info_nce_temperature" in options:
        logits_NN = cosine_NN / options["info_nce_temperature"]
        return F.cross_entropy(logits_NN, torch.arange(len(rows))).item()
    return (1 - cosine_NN.diagonal()).mean().item()


@pytest.mark.parametrize(
    "options",
    [
        {"ema_warmup_steps": 2},
        {"jepa_readout": "mean", "target_layer": 0.5, "jepa_layout": "rows", "jepa_source_view": "prefix"},
        {"jepa_loss": "info_nce", "info_nce_temperature": 0.5, "shuffle_pairs": True, "gradient_checkpointing": True},
    ],
    ids=["warm-up", "mean of an earlier layer, prefix", "InfoNCE, shuffled"],
)
def test_targets_are_those_of_a_model_averaged_by_hand(options, tmp_path):
    """Plain forwards of one sequence each, by a copy averaged after each of four steps, and in an evaluation."""
    trainer = trainer_of(tmp_path, num_predictor_tokens=0, **EMA, **options, eval_dataset=Dataset.from_list(PAIRS[:4]))
    record = Record(trainer)
    trainer.train()
    losses = logged(trainer, "jepa_loss")
    averaged = copy.deepcopy(record.models[0])
    for step, model in enumerate(record.models[:-1]):
        batches = record.rows[2 * step : 2 * step + 2]
        expected = sum(reference_loss(model, averaged, rows, options) for rows in batches) / 2
        assert losses[step] == pytest.approx(expected, rel=1e-4)
        decay = 0.5 * min(1.0, step / 2) if options.get("ema_warmup_steps") else 0.5
        for average, weight in zip(averaged.parameters(), record.models[step + 1].parameters(), strict=True):
            average.data = decay * average.data + (1 - decay) * weight.data

    by_weights = sum(reference_loss(model, model, rows, options) for rows in batches) / 2
    assert losses[-1] != pytest.approx(by_weights, rel=1e-3)

    record.rows.clear()
    evaluated = trainer.evaluate()["eval_jepa_loss"]
    batches = record.rows
    expected = sum(len(rows) * reference_loss(record.models[-1], averaged, rows, options) for rows in batches) / 4
    assert evaluated == pytest.approx(expected, rel=1e-4)


# --- limits

SEED = next(seed for seed in range(100) if [is_dropped(seed, step, 0.5) for step in range(4)] == [False, True] * 2)


@pytest.mark.parametrize(
    ("limit", "options", "adapter"),
    [
        ({"ema_decay": 0.0}, {}, None),
        (
            {"ema_decay": 0.0},
            {"jepa_layout": "rows", "jepa_source_view": "prefix", "jepa_direction": "target_to_source"},
            None,
        ),
        ({"ema_decay": 0.0}, {"jepa_source_view": "prefix", "jepa_dropout": 0.5, "seed": SEED, "bf16": True}, LORA),
        ({"learning_rate": 0.0}, {"jepa_regulariser": "sigreg", "gradient_checkpointing": True}, None),
    ],
    ids=["packed", "rows, target to source", "prefix, dropout, bf16, lora", "rate 0, sigreg, checkpointing"],
)
def test_without_decay_or_without_learning_it_is_stop_gradient_bit_for_bit(limit, options, adapter, tmp_path):
    averaged = trainer_of(tmp_path, adapter, **EMA | options | limit)
    rate = {name: value for name, value in limit.items() if name == "learning_rate"}
    stopped = trainer_of(tmp_path, adapter, **options | rate, jepa_target="stop_gradient")
    for trainer in (averaged, stopped):
        trainer.train()
    assert_same_training(averaged, stopped)


def test_every_layout_gives_the_target_a_forward_of_its_own(tmp_path):
    """Where `stop_gradient` reads it from the conversation, the numbers are the same but for rounding."""
    options = {"jepa_source_view": "prefix", "jepa_direction": "target_to_source", "jepa_layout": "packed"}
    averaged = trainer_of(tmp_path, **options, jepa_target="ema", ema_decay=0.0)
    stopped = trainer_of(tmp_path, **options, jepa_target="stop_gradient")
    for trainer in (averaged, stopped):
        trainer.train()
    assert logged(averaged, "jepa_loss") == pytest.approx(logged(stopped, "jepa_loss"), rel=1e-4)


def test_dropout_perturbs_the_target_in_training_alone(tmp_path):
    """That of LoRA, as that of the model."""
    trainer = trainer_of(tmp_path, replace(LORA, lora_dropout=0.2), **EMA)
    trainer.train()
    laid_out = next(iter(trainer.get_train_dataloader()))["laid_out"]
    for is_training in (True, False):
        trainer.model.train(is_training)
        one, other = (trainer.with_targets(trainer.model, laid_out).target_ND for _ in range(2))
        assert torch.equal(one, other) != is_training


# --- what is averaged, and where it is saved


@pytest.mark.parametrize("adapter", [None, LORA], ids=["full", "lora"])
def test_a_checkpoint_has_the_averages_of_what_is_trained_below_the_head(adapter, tmp_path):
    """Of adapters alone under LoRA. They are in no model that is saved, and absent with `save_only_model`."""
    trainer = trainer_of(tmp_path / "whole", adapter, **EMA, save_strategy="steps", save_steps=2, max_steps=2)
    trainer.train()
    trainer.save_model()
    saved = load_file(tmp_path / "whole" / "checkpoint-2" / "averaged_weights.safetensors")
    assert {"lora_" in name for name in saved} == {adapter is not None}
    assert len(saved) == (2 * 7 * 2 if adapter else 2 * 9 + 2)  # seven matrices and two norms a layer
    assert not [name for name in saved if "predictor" in name or "lm_head" in name]
    assert {value.dtype for value in saved.values()} == {torch.float32}
    assert not (tmp_path / "whole" / "averaged_weights.safetensors").exists()

    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1, "save_only_model": True}
    trainer_of(tmp_path / "model", adapter, **EMA, **options).train()
    assert not (tmp_path / "model" / "checkpoint-1" / "averaged_weights.safetensors").exists()


def test_a_resumed_run_has_the_averages_and_warm_up_of_the_uninterrupted_one(tmp_path):
    """Bit for bit, also in an evaluation before the first step."""
    options = EMA | {"ema_warmup_steps": 3, "save_strategy": "steps", "save_steps": 2}
    whole = trainer_of(tmp_path / "whole", LORA, **options, eval_dataset=Dataset.from_list(PAIRS))
    whole.train()
    resumed = trainer_of(
        tmp_path / "resumed", LORA, **options, eval_dataset=Dataset.from_list(PAIRS), eval_on_start=True
    )
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert_same_training(resumed, whole)
    files = [tmp_path / run / "checkpoint-4" / "averaged_weights.safetensors" for run in ("whole", "resumed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_checkpoint_without_averages_is_refused(tmp_path):
    trainer_of(tmp_path, jepa_target="stop_gradient", save_strategy="steps", save_steps=1, max_steps=1).train()
    with pytest.raises(ValueError, match=r"checkpoint-1 has no averaged_weights.safetensors: it was not trained"):
        trainer_of(tmp_path, **EMA).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_the_best_checkpoint_brings_its_averages(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 2}
    trainer = trainer_of(
        tmp_path,
        **EMA,
        **options,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,  # training lowers it, so the first step is kept
        eval_dataset=Dataset.from_list(PAIRS),
    )
    trainer.train()
    assert trainer.state.best_global_step == 1
    first = logged(trainer, "eval_jepa_loss")[0]
    assert trainer.evaluate()["eval_jepa_loss"] == pytest.approx(first, rel=1e-6)


def test_a_second_training_starts_its_averages_anew(tmp_path):
    """After its one step, half of what it began with and half of what it has become."""
    trainer = trainer_of(tmp_path, **EMA, max_steps=1)
    trainer.train()
    record = Record(trainer)
    trainer.train()
    first, last = (dict(model.model.named_parameters()) for model in record.models)
    with trainer.averaged_weights.swapped_in():
        for name, average in trainer.model.model.named_parameters():
            torch.testing.assert_close(average.data, (first[name].data + last[name].data) / 2, msg=name)


# --- refusals


@pytest.mark.parametrize(
    ("trained", "message"),
    [
        (["lm_head"], "averages the trained weights below the LM head, and none is"),
        ([], "Nothing of the model would be"),
    ],
    ids=["head", "nothing"],
)
def test_a_model_of_which_nothing_is_averaged_is_refused(trained, message, tmp_path):
    model = tiny_llama().requires_grad_(False)
    for name in trained:
        model.get_submodule(name).requires_grad_(True)
    with pytest.raises(ValueError, match=message):
        JEPATrainer(
            model,
            JEPAConfig(str(tmp_path), source_column="source", target_column="target", use_cpu=True, **EMA),
            train_dataset=Dataset.from_list(PAIRS),
            processing_class=tiny_tokenizer(),
        )
