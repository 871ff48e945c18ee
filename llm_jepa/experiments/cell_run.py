"""Runs one cell of an experiment: trains a recipe, evaluates the model, and writes `result.json`.

The cell's directory holds its specification, `cell.json`. An interrupted cell resumes from its last checkpoint. If a
killed comparison left the cell running, this process waits for it.
"""

import gc
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from llm_jepa.evaluation.prediction_log import discard_log
from llm_jepa.evaluation.results import write_predictions
from llm_jepa.experiments.cell_spec import (
    CURVE_FILE,
    DIVERGED,
    LOCK_FILE,
    RESULT_FILE,
    RUN_DIRECTORY,
    SPEC_FILE,
    CellSpec,
    read_spec,
)
from llm_jepa.experiments.kinds import kind_of
from llm_jepa.experiments.learning_curve import LearningCurve, read_curve
from llm_jepa.files.atomic import write_json
from llm_jepa.runs.record import STATE_FILE, read_json, toolkit_commit
from llm_jepa.train import train
from llm_jepa.training.checkpoints import checkpoint_to_resume
from llm_jepa.vision.recipe import build_any_recipe

PREDICTIONS_FILE = "predictions.jsonl"

logger = logging.getLogger(__name__)


def run_cell(directory: Path) -> None:
    """Train and score one cell, unless it has its result. Waits for another process that runs the same cell.

    A loss that is not finite is a result too, without scores: the same training would diverge again.
    """
    with FileLock(directory / LOCK_FILE):
        spec = read_spec(directory / SPEC_FILE)
        assert spec is not None, "the comparison writes it first"
        if read_json(directory / RESULT_FILE).get("evaluated") != spec.evaluation():
            _run(directory, spec)


def _run(directory: Path, spec: CellSpec) -> None:
    run_directory, commit = directory / RUN_DIRECTORY, toolkit_commit()
    settings = spec.settings | {"output_dir": str(run_directory)}
    recipe = build_any_recipe(Path(spec.recipe), settings)
    held_out = kind_of(settings).held_out(recipe, spec.max_rows, spec.max_new_tokens, spec.eval_batch_size)
    curve = []
    if spec.every_steps is not None:
        curve = [LearningCurve(held_out, spec.every_steps, directory / CURVE_FILE)]
    is_resumed = checkpoint_to_resume(recipe.settings) is not None
    try:
        train(recipe, curve)
    except FloatingPointError as error:
        logger.warning("%s", error)
        without_scores = {
            "evaluated": spec.evaluation(),
            DIVERGED: str(error),
            "scores": {},
            "rows": {},
            "training": {},
        }
        write_json(without_scores, directory / RESULT_FILE)
        shutil.rmtree(run_directory)
        return
    gc.collect()  # free the trainer before another model is loaded
    outcome, points = held_out.evaluate(directory), read_curve(directory / CURVE_FILE)
    write_predictions(outcome.predictions, directory / PREDICTIONS_FILE)
    result = {
        "evaluated": spec.evaluation(),
        "eval_batch_size": spec.eval_batch_size,
        "scores": outcome.scores,
        "rows": outcome.rows,
        "row_indices": outcome.row_indices,
        "clusters": outcome.clusters,
        "left_out": outcome.left_out,
        "problems": outcome.problems,
        "training": _training(run_directory, points, is_resumed),
        "curve": [{"step": point["step"], "scores": point["scores"]} for point in points],
        **({} if commit is None else {"commit": commit}),
    }
    write_json(result, directory / RESULT_FILE)
    discard_log(directory, "tuned")
    if not spec.keep_model:
        shutil.rmtree(run_directory)


def _training(run_directory: Path, points: Sequence[Mapping[str, Any]], is_resumed: bool) -> dict[str, Any]:
    """Steps, seconds without those of the curve's `points`, and the logged losses of a finished run.

    Of a resumed run its last part alone is timed: None.
    """
    state = json.loads((run_directory / STATE_FILE).read_text(encoding="utf-8"))
    log = [_parts_of_the_loss(entry) for entry in state["log_history"]]
    last: dict[str, Any] = {}
    for entry in log:
        last |= entry
    seconds = [entry["train_runtime"] for entry in state["log_history"] if "train_runtime" in entry]
    evaluating = sum(point.get("seconds", 0.0) for point in points)  # points of earlier versions lack them
    return {
        "steps": state["global_step"],
        "seconds": seconds[-1] - evaluating if seconds and not is_resumed else None,
        "last_log": {name: value for name, value in last.items() if name != "step"},
        "log": [entry for entry in log if len(entry) > 1],
    }


def _parts_of_the_loss(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in entry.items()
        if name == "step" or name.endswith("loss") or name.startswith("jepa_")
    }
