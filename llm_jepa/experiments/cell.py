"""Runs one cell of an experiment: trains a recipe, evaluates the model, and writes `result.json`.

Each cell is a process of its own, `python -m llm_jepa.experiments.cell DIRECTORY`. Cells cannot affect each other, and
a kill costs one cell. DIRECTORY holds the cell's specification, `cell.json`. An interrupted cell resumes from its last
checkpoint. If a killed comparison left the cell running, this process waits for it.
"""

import gc
import json
import logging
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from transformers.trainer import TRAINER_STATE_NAME

from llm_jepa.entry import entry_point
from llm_jepa.evaluation.run import evaluate, load_rows, load_run_tokenizer, write_predictions
from llm_jepa.files.atomic import write_atomically
from llm_jepa.recipe import parse_recipe
from llm_jepa.train import train

logger = logging.getLogger("llm_jepa.experiments.cell")

SPEC_FILE = "cell.json"
RESULT_FILE = "result.json"
PREDICTIONS_FILE = "predictions.jsonl"
LOCK_FILE = "cell.lock"
RUN_DIRECTORY = "run"


@dataclass(frozen=True)
class CellSpec:
    """How to train and score a cell; stored as `cell.json`."""

    recipe: str
    overrides: list[str]
    max_rows: int | None
    max_new_tokens: int
    eval_batch_size: int
    keep_model: bool


def main() -> None:
    """Run the cell in the directory named on the command line."""
    with entry_point():
        run_cell(Path(sys.argv[1]))


def run_cell(directory: Path) -> None:
    """Train and score one cell, unless it has its result. Waits for another process that runs the same cell."""
    with FileLock(directory / LOCK_FILE):
        if not (directory / RESULT_FILE).is_file():
            _run(directory)


def write_json(content: Any, path: Path) -> None:
    """Write a JSON file atomically."""
    write_atomically(json.dumps(content, indent=1, ensure_ascii=False) + "\n", path)


def _run(directory: Path) -> None:
    spec = CellSpec(**json.loads((directory / SPEC_FILE).read_text(encoding="utf-8")))
    run_directory = directory / RUN_DIRECTORY
    recipe = parse_recipe([spec.recipe, *spec.overrides, f"--output_dir={run_directory}"])
    train(recipe)
    gc.collect()  # free the trainer before another model is loaded
    tokenizer = load_run_tokenizer(recipe)
    rows = load_rows(recipe, tokenizer, spec.max_rows)
    limits = spec.max_new_tokens, spec.eval_batch_size
    (tuned,) = evaluate(recipe, ["tuned"], tokenizer, rows, *limits, directory=directory)
    write_predictions(tuned.predictions, directory / PREDICTIONS_FILE)
    result = {
        "scores": {name: rate.fraction for name, rate in tuned.scores.items() if rate.count},
        "rows": {name: [row.values[name] for row in tuned.rows] for name in tuned.scores},
        "problems": {i: row.problem for i, row in enumerate(tuned.rows) if row.problem is not None},
        "training": _training(run_directory),
    }
    write_json(result, directory / RESULT_FILE)
    if not spec.keep_model:
        shutil.rmtree(run_directory)


def _training(run_directory: Path) -> dict[str, Any]:
    """Steps, seconds and the last logged losses of a finished run."""
    state = json.loads((run_directory / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    log = state["log_history"]
    last: dict[str, Any] = {}
    for entry in log:
        last |= {name: value for name, value in entry.items() if name.endswith("loss") or name.startswith("jepa_")}
    seconds = [entry["train_runtime"] for entry in log if "train_runtime" in entry]
    return {"steps": state["global_step"], "seconds": seconds[-1] if seconds else None, "last_log": last}


if __name__ == "__main__":
    main()
