"""What every objective must do: train on several architectures, resume bit for bit, run on two processes, add up."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.objectives.own_parameters import PREDICTOR_FILE, gathered_state
from llm_jepa.settings.objectives import OBJECTIVES, logged_terms
from tests.architectures import tiny_model
from tests.forks import fork_ranks, said_by_ranks
from tests.tiny import PAIRS, tiny_tokenizer
from tests.train_tiny import train_tiny

EVERY = {
    **{name: {"jepa_objective": name} for name in OBJECTIVES},
    "step": {"jepa_objective": "step", "step_separator": r"\W"},
    "pair, averaged target": {"jepa_target": "ema", "ema_decay": 0.5},
    "next_latent, decoder layer": {"jepa_objective": "next_latent", "latent_predictor": "decoder_layer"},
    "next_latent, detached": {"jepa_objective": "next_latent", "rollout_steps": 2, "detach_backbone": True},
    "several": {
        "jepa_objective": ["pair", "tube", "next_latent", "multi_token"],
        "objective_weights": [1.0, 0.02, 0.5, 0.5],
    },
}
"""What to call it -> its options."""
WITH_PARAMETERS = [name for name in EVERY if name not in ("tube", "patch", "step")]


def trainer_of(output_dir, architecture: str = "llama", rows=PAIRS, **options) -> JEPATrainer:
    settings = {
        "output_dir": str(output_dir),
        "source_column": "source",
        "target_column": "target",
        "per_device_train_batch_size": 4,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return JEPATrainer(
        tiny_model(architecture, vocab_size=320),
        JEPAConfig(**settings | options),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
    )


@pytest.mark.parametrize("name", [*OBJECTIVES, "pair, every term", "several"])
def test_what_an_evaluation_logs_is_known_before(name, tmp_path):
    every_term = {"jepa_loss": "info_nce", "jepa_regulariser": "sigreg"}
    options = every_term if name == "pair, every term" else EVERY[name]
    trainer = trainer_of(tmp_path, **options)
    logged = {key.removeprefix("eval_") for key in trainer.evaluate(Dataset.from_list(PAIRS))}
    known = set(logged_terms(trainer.args))
    assert {key for key in logged if key.startswith("jepa_")} == known


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3", "gpt2"])
@pytest.mark.parametrize("name", EVERY)
def test_two_steps_train_model_and_network(name, architecture, tmp_path):
    """Every parameter of its own moves, and the model that is saved has none of them."""
    trainer = trainer_of(tmp_path, architecture, **EVERY[name])
    names = [*trainer.model.state_dict()]
    before = {} if trainer.predictor is None else gathered_state(trainer.predictor)
    trainer.train()
    assert [entry["jepa_loss"] > 0 for entry in trainer.state.log_history if "jepa_loss" in entry] == [True, True]
    after = {} if trainer.predictor is None else gathered_state(trainer.predictor)
    assert [key for key, value in after.items() if torch.equal(value, before[key])] == []
    assert [*trainer.model.state_dict()] == names
    assert (trainer.predictor is not None) == (name in WITH_PARAMETERS)


@pytest.mark.parametrize("name", EVERY)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(name, tmp_path):
    options = EVERY[name] | {"max_steps": 4, "predictor_learning_rate": 3e-3 if name in WITH_PARAMETERS else None}
    whole = trainer_of(tmp_path / "whole", **options, save_strategy="steps", save_steps=2)
    whole.train()
    resumed = trainer_of(tmp_path / "resumed", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert_equal(resumed.model.state_dict(), whole.model.state_dict())
    if name in WITH_PARAMETERS:
        assert_equal(gathered_state(resumed.predictor), gathered_state(whole.predictor))
    logs = [[entry.get("jepa_loss") for entry in one.state.log_history][2:4] for one in (resumed, whole)]
    assert logs[0] == logs[1]


def assert_equal(state: dict, expected: dict) -> None:
    assert state.keys() == expected.keys()
    assert [key for key, value in state.items() if not torch.equal(value, expected[key])] == []


@pytest.mark.parametrize("name", ["several", "next_latent, detached", "answer_code"])
def test_two_processes_take_the_steps_of_one(name, tmp_path, monkeypatch):
    """Several at once stand for each alone, as the last test says. By SGD, since Adam's steps for gradients near zero
    depend on the order of sums."""
    monkeypatch.chdir(tmp_path)
    logs = []
    for processes, rows in ((2, 4), (1, 8)):
        output_dir = tmp_path / str(processes)
        options = EVERY[name] | {"per_device_train_batch_size": rows, "optim": "sgd", "learning_rate": 0.1}
        options |= {"save_strategy": "steps", "save_steps": 3}
        statuses = fork_ranks(processes, train_tiny, str(output_dir), options)
        assert statuses == [0] * processes, said_by_ranks()
        logs.append(json.loads((output_dir / "report.json").read_text())["log"])
    for two, one in zip(*logs, strict=True):
        for key in ("loss", "lm_loss", "jepa_loss", "grad_norm"):
            assert two[key] == pytest.approx(one[key], rel=1e-4), key
    files = ["model.safetensors", *([f"checkpoint-3/{PREDICTOR_FILE}"] if name in WITH_PARAMETERS else [])]
    for file in files:
        two, one = (load_file(Path(tmp_path, processes, file)) for processes in "21")
        assert two.keys() == one.keys()
        for key, value in two.items():
            torch.testing.assert_close(value, one[key], atol=2e-5, rtol=0, msg=key)


def test_several_objectives_are_the_weighted_sum_of_each_alone(tmp_path):
    """One step from the same start: the losses, and the gradients by plain SGD; own parameters stand under a name."""
    options = {"max_steps": 1, "optim": "sgd", "max_grad_norm": 1e9, "lm_weight": 0.0}
    weights = {"pair": 0.5, "tube": 2.0, "next_latent": 0.25}
    start = tiny_model("llama", vocab_size=320).state_dict()
    alone = {name: trainer_of(tmp_path, jepa_objective=name, **options) for name in weights}
    together = trainer_of(
        tmp_path, jepa_objective=[*weights], objective_weights=[*weights.values()], jepa_layout="packed", **options
    )
    for trainer in (*alone.values(), together):
        trainer.train()
    (log,) = [entry for entry in together.state.log_history if "jepa_loss" in entry]
    for name, trainer in alone.items():
        (own,) = [entry["jepa_loss"] for entry in trainer.state.log_history if "jepa_loss" in entry]
        assert log[f"jepa_loss_{name}"] == pytest.approx(own, rel=1e-4)
    total = sum(weight * log[f"jepa_loss_{name}"] for name, weight in weights.items())
    assert log["jepa_loss"] == pytest.approx(total, rel=1e-5)
    for key, value in together.model.state_dict().items():
        moves = [weights[name] * (trainer.model.state_dict()[key] - start[key]) for name, trainer in alone.items()]
        torch.testing.assert_close(value - start[key], sum(moves), atol=3e-6, rtol=1e-3, msg=key)
    assert {key.partition(".")[0] for key in gathered_state(together.predictor)} == {"pair", "next_latent"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jepa_objective": "multi_token", "num_future_tokens": 2}, r"`num_future_tokens` is 2.*has 3 tokens.*most 1"),
        ({"jepa_objective": "next_latent", "rollout_steps": 3}, r"`rollout_steps` is 3.*has 3 tokens.*most 2"),
        ({"jepa_objective": "step"}, "No target has 3 steps.*Set `step_separator`"),
    ],
    ids=str,
)
def test_data_on_which_nothing_would_be_learnt_are_refused(options, message, tmp_path):
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "step_ends": [1, 2]}] * 4
    columns = {"source_column": None, "target_column": None}
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, rows=rows, **columns, **options)


def test_a_checkpoint_of_another_objective_is_refused(tmp_path):
    trainer_of(tmp_path, jepa_objective="next_latent", save_strategy="steps", save_steps=2).train()
    with pytest.raises(ValueError, match="the parameters of another objective"):
        trainer_of(tmp_path, jepa_objective="tube").train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
