"""Two real processes take the same steps as one process on the same global batch, negatives from both."""

import json

import pytest
from safetensors.torch import load_file

from tests.forks import fork_ranks, said_by_ranks
from tests.vision.tiny_parts import colour_rows, saved
from tests.vision.train_tiny import train_tiny


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, parts = colour_rows(tmp_path, copies=4), {name: saved(name) for name in ("dinov2", "llama", "bert")}

    def train(num_processes: int, **options) -> tuple[list[dict], dict]:
        output_dir = tmp_path / str(num_processes)
        statuses = fork_ranks(num_processes, train_tiny, str(output_dir), rows, parts, options)
        assert statuses == [0] * num_processes, said_by_ranks()
        report = json.loads((output_dir / "report.json").read_text())
        assert report["num_processes"] == num_processes
        return report["log"], load_file(output_dir / "model.safetensors")

    return train


@pytest.mark.parametrize(
    ("options", "whole"),
    [
        ({"per_device_train_batch_size": 4, "optim": "sgd"}, {"per_device_train_batch_size": 8}),
        ({"per_device_train_batch_size": 4, "trains_temperature": True, "jepa_regulariser": "vicreg"},
         {"per_device_train_batch_size": 8}),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "jepa_loss": "cosine",
          "feature_cache": "cache"}, {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}),
    ],
    ids=["info_nce by sgd", "temperature and vicreg", "cosine, accumulated, cached"],
)  # fmt: skip
def test_two_processes_take_the_steps_of_one(options, whole, run):
    """The batch of 8 has 6 answers, so that some rows of one process have the answer of a row of the other."""
    two, weights_of_two = run(2, **options)
    one, weights_of_one = run(1, **options | whole)
    names = {"loss", "jepa_cosine", "grad_norm", "temperature", "jepa_regulariser", "jepa_without_negatives"}
    for mine, its in zip(two[:3], one[:3], strict=True):
        assert names & mine.keys() == names & its.keys() > {"loss", "grad_norm"}
        for name in names & mine.keys():
            assert mine[name] == pytest.approx(its[name], rel=1e-3), name
    for name, value in weights_of_one.items():
        assert weights_of_two[name].numpy() == pytest.approx(value.numpy(), abs=1e-3), name


def test_two_processes_rank_all_answers_of_the_split(run):
    """24 rows in evaluation batches of 5: the repeated rows are left out, of the loss and its parts too."""
    options = {"eval_strategy": "steps", "eval_steps": 3, "per_device_eval_batch_size": 5, "jepa_loss": "cosine"}
    (two, _), (one, _) = (
        run(2, per_device_train_batch_size=4, **options),
        run(1, per_device_train_batch_size=8, **options),
    )
    found = [next(entry for entry in log if "eval_recall_at_1" in entry) for log in (two, one)]
    ranks = ("eval_recall_at_1", "eval_recall_at_5", "eval_mean_reciprocal_rank")
    for name in (*ranks, "eval_loss", "eval_jepa_cosine"):
        assert found[0][name] == pytest.approx(found[1][name], abs=1e-3), name
