"""Experiments on a tiny model: all tests share one model, one data set and one base recipe."""

import sys

import pytest
import yaml
from datasets import Dataset

from llm_jepa.cli import main
from tests.tiny import PAIRS, save_tiny_model

RECIPE = {
    "source_column": "source",
    "target_column": "target",
    "use_cpu": True,
    "bf16": False,
    "max_length": 128,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 4,
    "learning_rate": 0.01,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "jepa_source_view": "prefix",
    "jepa_target": "stop_gradient",
}
ARMS = {"lm_only": {"jepa_weight": 0}, "jepa": {}}
WHOLE = {"evaluation": {"max_new_tokens": 4, "eval_batch_size": 8, "every_steps": 1}, "threshold": 0.9}
"""The experiment of `finished`: also evaluated along the training."""
SPLITS = {
    "train": PAIRS,
    "validation": [{**pair, "source": f"some {pair['source']}"} for pair in PAIRS],
    "test": [{**pair, "source": f"all {pair['source']}"} for pair in PAIRS],
}
TUBE = {"jepa_objective": "tube", "jepa_weight": 0.02, "jepa_source_view": "alone", "jepa_target": "online"}


@pytest.fixture(scope="package")
def written(tmp_path_factory):
    """Writes an experiment file; all share one model, one data set and one base recipe."""
    directory = tmp_path_factory.mktemp("experiment")
    save_tiny_model(directory / "model")
    (directory / "data").mkdir()
    for split, rows in SPLITS.items():
        Dataset.from_list(rows).to_json(directory / "data" / f"{split}.jsonl")
    recipe = RECIPE | {"model_name_or_path": str(directory / "model"), "dataset_name": str(directory / "data")}
    (directory / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"output_dir": "unused"}))

    def write(name: str, recipe_settings: dict | None = None, **content):
        path, recipe_path = directory / f"{name}.yaml", directory / "recipe.yaml"
        if recipe_settings is not None:
            recipe_path = directory / f"{name}-recipe.yaml"
            recipe_path.write_text(yaml.safe_dump(recipe | {"output_dir": "unused"} | recipe_settings))
        defaults = {
            "recipe": str(recipe_path),
            "output_dir": str(directory / name),
            "baseline": "lm_only",
            "arms": ARMS,
            "seeds": [1, 2],
            "evaluation": {"max_new_tokens": 4, "eval_batch_size": 8},
        }
        path.write_text(yaml.safe_dump(defaults | content, sort_keys=False))
        return path

    return write


@pytest.fixture
def _quick_cells(python, monkeypatch):
    """Cells start at once; those of the README's comparison start like a user's."""
    monkeypatch.setattr(sys, "executable", python)


@pytest.fixture(scope="package")
def finished(written, python):
    """A complete comparison by the command."""
    path = written("whole", **WHOLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", python)
        assert main(["compare", str(path), "--jobs", "2"]) == 0
    return path
