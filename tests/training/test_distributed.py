"""Two real processes take the same step as one process on the same global batch."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from llm_jepa.objectives.draws import is_dropped
from llm_jepa.objectives.own_parameters import PREDICTOR_FILE
from tests.forks import fork_ranks, said_by_ranks
from tests.tiny import PAIRS
from tests.train_tiny import train_tiny


def run(num_processes: int, output_dir: Path, **options) -> dict:
    statuses = fork_ranks(num_processes, train_tiny, str(output_dir), options)
    assert statuses == [0] * num_processes, said_by_ranks()
    return json.loads((output_dir / "report.json").read_text())


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_two_processes_take_the_steps_of_one(lora, tmp_path):
    """Two processes of two micro-batches of two rows, and eight rows at once, give the same losses and weights."""
    saves = {"lora": lora, "save_strategy": "steps", "save_steps": 3, "num_predictor_tokens": 2}
    two = run(2, tmp_path / "two", per_device_train_batch_size=2, gradient_accumulation_steps=2, **saves)
    one = run(1, tmp_path / "one", per_device_train_batch_size=8, **saves)

    assert (two["num_processes"], one["num_processes"]) == (2, 1)
    assert_same_log(two, one, ("loss", "lm_loss", "jepa_loss", "jepa_cosine", "grad_norm", "num_tokens"))
    weights = "adapter_model.safetensors" if lora else "model.safetensors"
    for file in (weights, f"checkpoint-3/{PREDICTOR_FILE}"):
        assert_same_weights(tmp_path, file)


@pytest.mark.parametrize(
    "options",
    [
        {"jepa_dropout": 0.5, "jepa_dropout_rescale": True, "gradient_checkpointing": True},
        {"jepa_objective": "tube", "span_sampler": "uniform"},
        {"shuffle_pairs": True},
    ],
    ids=["dropout", "tube", "shuffled"],
)
def test_two_processes_drop_and_draw_as_one_does(options, tmp_path):
    """Two of four steps drop the term, in both processes; a row's draws and partner do not depend on its process."""
    seed = next(seed for seed in range(100) if [is_dropped(seed, step, 0.5) for step in range(4)].count(True) == 2)
    options = options | {"seed": seed, "max_steps": 4}
    two = run(2, tmp_path / "two", per_device_train_batch_size=2, gradient_accumulation_steps=2, **options)
    one = run(1, tmp_path / "one", per_device_train_batch_size=8, **options)
    assert (two["num_processes"], one["num_processes"]) == (2, 1)
    assert_same_log(two, one, ("loss", "lm_loss", "jepa_loss", "grad_norm"))
    assert ["jepa_loss" in entry for entry in one["log"]].count(False) == (2 if "jepa_dropout" in options else 0)
    assert_same_weights(tmp_path, "model.safetensors")


ONE_TARGET = [pair | {"target": "yes"} for pair in PAIRS]
TWO_TARGETS = [pair | {"target": "yes" if i % 3 else "no"} for i, pair in enumerate(PAIRS)]


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (PAIRS, {"jepa_target": "online"}),
        (PAIRS, {"jepa_target": "stop_gradient"}),
        (PAIRS, {"jepa_target": "ema", "ema_decay": 0.5}),
        (TWO_TARGETS, {"jepa_loss": "info_nce_symmetric", "jepa_target": "stop_gradient"}),
        (ONE_TARGET, {}),
    ],
    ids=["online", "stop-gradient", "ema", "symmetric, two targets", "one target"],
)
def test_info_nce_takes_its_negatives_from_all_processes(rows, options, tmp_path):
    """Two processes of four rows compute what one of eight does: losses, gradient, weights, rows without negatives."""
    options = {"jepa_loss": "info_nce", "info_nce_temperature": 0.5, "rows": rows} | options
    two = run(2, tmp_path / "two", per_device_train_batch_size=4, **options)
    one = run(1, tmp_path / "one", per_device_train_batch_size=8, **options)
    assert (two["num_processes"], one["num_processes"]) == (2, 1)
    assert_same_log(two, one, ("loss", "lm_loss", "jepa_loss", "grad_norm", "jepa_without_negatives"))
    assert_same_weights(tmp_path, "model.safetensors")
    without = 1.0 if rows is ONE_TARGET else 0.0
    assert [entry["jepa_without_negatives"] for entry in two["log"]] == [without] * 3
    assert [entry["jepa_loss"] == 0 for entry in two["log"]] == [bool(without)] * 3


@pytest.mark.parametrize("target", ["online", "stop_gradient"])
@pytest.mark.parametrize("regulariser", ["sigreg", "vicreg"])
def test_a_regulariser_is_that_of_the_rows_of_all_processes(regulariser, target, tmp_path):
    """Two processes of four rows compute what one of eight does; a regulariser of four rows is another number."""
    options = {"jepa_regulariser": regulariser, "regulariser_weight": 0.5, "jepa_target": target}
    two = run(2, tmp_path / "two", per_device_train_batch_size=4, **options)
    one = run(1, tmp_path / "one", per_device_train_batch_size=8, **options)
    assert_same_log(two, one, ("loss", "lm_loss", "jepa_loss", "jepa_regulariser", "grad_norm"))
    assert_same_weights(tmp_path, "model.safetensors")


@pytest.mark.parametrize("num_rows", [5, 7, 3])
@pytest.mark.parametrize(
    ("options", "metrics"),
    [
        ({}, ("jepa_loss", "jepa_cosine")),
        ({"jepa_objective": ["next_latent", "step"], "step_separator": "\\d"}, ("jepa_loss", "jepa_kl")),
    ],
    ids=["pair", "several"],
)
def test_an_evaluation_counts_a_row_once(options, metrics, num_rows, tmp_path):
    """Of two processes with micro-batches of two: of five rows the last batches have one new row and none."""
    evaluates = {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 1, "learning_rate": 0.0}
    evaluates |= {"held_out": PAIRS[:num_rows]} | options
    two = run(2, tmp_path / "two", per_device_eval_batch_size=2, per_device_train_batch_size=4, **evaluates)
    one = run(1, tmp_path / "one", per_device_eval_batch_size=num_rows, **evaluates)
    assert (two["num_processes"], one["num_processes"]) == (2, 1)
    for name in metrics:
        found, expected = (report["evaluations"][0][f"eval_{name}"] for report in (two, one))
        assert found == pytest.approx(expected, rel=1e-5), name


def assert_same_log(two: dict, one: dict, names: tuple[str, ...]) -> None:
    for name in names:
        expected = [entry.get(name, 0.0) for entry in one["log"]]
        assert [entry.get(name, 0.0) for entry in two["log"]] == pytest.approx(expected, rel=1e-4)


def assert_same_weights(directory: Path, file: str) -> None:
    actual, expected = load_file(directory / "two" / file), load_file(directory / "one" / file)
    assert actual.keys() == expected.keys()
    for name in expected:
        assert actual[name].numpy() == pytest.approx(expected[name].numpy(), abs=1e-4), name
