"""Evaluation along the training: the scores of the model at that step, and a training that does not notice."""

import json

import pytest
import yaml
from safetensors.torch import load_file

from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.evaluation.run import evaluate
from llm_jepa.experiments.kinds import kind_of
from llm_jepa.experiments.learning_curve import LearningCurve, read_curve
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.recipe import build_recipe
from llm_jepa.train import train


@pytest.fixture
def trained(written, tmp_path):
    """Trains the base recipe for some steps, with a curve or without: its recipe, and the points."""
    path = written("curve")
    settings = yaml.safe_load(path.with_name("recipe.yaml").read_text())

    def run(name: str, max_steps: int, every_steps: int | None):
        output_dir = tmp_path / name
        own = settings | {"output_dir": str(output_dir), "max_steps": max_steps, "lr_scheduler_type": "constant"}
        recipe = build_recipe(path, own)
        callbacks = []
        if every_steps is not None:
            held_out = kind_of(own).held_out(recipe, None, 6, 3)
            callbacks = [LearningCurve(held_out, every_steps, tmp_path / f"{name}.jsonl")]
        train(recipe, callbacks)
        return recipe, read_curve(tmp_path / f"{name}.jsonl")

    return run


def test_a_point_is_the_score_of_a_run_that_ends_there_and_training_does_not_notice(trained):
    watched, points = trained("watched", 4, 2)
    alone, _ = trained("alone", 4, None)
    short, _ = trained("short", 2, None)
    assert [point["step"] for point in points] == [2, 4]
    for recipe, point in ((short, points[0]), (alone, points[1])):
        tokenizer = load_run_tokenizer(recipe)
        (result,) = evaluate(recipe, ["tuned"], tokenizer, load_rows(recipe, tokenizer), 6, 3)
        assert point["scores"] == {name: rate.fraction for name, rate in result.scores.items()}
    weights = [load_file(recipe.output_dir / "model.safetensors") for recipe in (watched, alone)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[1])


def test_a_line_that_a_kill_cut_off_is_dropped_and_a_step_counts_once(tmp_path):
    path = tmp_path / "curve.jsonl"
    lines = [json.dumps({"step": step, "scores": {"strict": score}}) for step, score in ((2, 0.1), (4, 0.2), (2, 0.1))]
    path.write_text("\n".join(lines) + '\n{"step": 6, "sco')
    assert [point["step"] for point in read_curve(path)] == [2, 4]
