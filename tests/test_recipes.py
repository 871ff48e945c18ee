"""Every recipe is executable, parses, and takes two steps (on a tiny model and a few generated rows)."""

import json
import os
from pathlib import Path

import pytest

from llm_jepa.experiment import read_experiment
from llm_jepa.recipe import parse_recipe
from llm_jepa.train import train
from tests.tiny import PAIRS, save_tiny_model

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*/*.yaml"))
RECIPES = [path for path in RECIPES if path.parent.name not in ("accelerate", "experiments")]
EXPERIMENTS = sorted((Path(__file__).parent.parent / "recipes" / "experiments").glob("*.yaml"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model directory and a data directory as small as they can be."""
    directory = tmp_path_factory.mktemp("tiny")
    (directory / "data").mkdir()
    for split in ("train", "test"):
        (directory / "data" / f"{split}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return save_tiny_model(directory / "model"), str(directory / "data")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_takes_two_steps(path, tiny, tmp_path):
    model, data = tiny
    overrides = {
        "model_name_or_path": model,
        "dataset_name": data,
        "output_dir": str(tmp_path / "out"),
        "max_steps": 2,
    }
    recipe = parse_recipe(
        [str(path), *(f"--{key}={value}" for key, value in overrides.items()), "--disable_tqdm=true"]
    )
    trainer = train(recipe)
    assert trainer is not None
    assert trainer.state.global_step == 2
    assert list((tmp_path / "out").glob("*model.safetensors"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_can_be_launched_as_a_program(path):
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env -S python -m llm_jepa.train\n")


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_is_read_with_every_arm(path, monkeypatch):
    """From the repository's root, as its paths are written."""
    monkeypatch.chdir(path.parents[2])
    experiment = read_experiment(path)
    assert experiment.baseline in experiment.arms
    assert len(experiment.seeds) >= 5
