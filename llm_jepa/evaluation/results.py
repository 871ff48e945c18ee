"""What an evaluation finds of a checkpoint, and the files that hold it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llm_jepa.files.atomic import write_atomically
from llm_jepa.models.checkpoint_choice import Checkpoint
from llm_jepa.recipe import Recipe
from llm_jepa.runs.record import SCORES_FILES, read_json
from llm_jepa.scoring.choice import ChoiceLikelihoods
from llm_jepa.scoring.tasks import Rate, RowScores, left_out


@dataclass(frozen=True)
class Prediction:
    """The text that one checkpoint generated for one row, and the likelihoods of the row's choices, if any."""

    row_index: int
    source: str
    gold: str
    prediction: str
    stopped: bool
    likelihoods: ChoiceLikelihoods | None = None


@dataclass(frozen=True)
class CheckpointResult:
    """Predictions and scores of one checkpoint.

    Attributes:
        location: The directory or Hub id of its weights.
        rows: The scores of each prediction.
        scores: Score -> its rate over the rows.
    """

    checkpoint: Checkpoint
    location: str
    predictions: list[Prediction]
    rows: list[RowScores]
    scores: dict[str, Rate]

    @property
    def left_out(self) -> dict[str, int]:
        """Reason -> how many rows the task's own scores leave out, since their gold cannot be scored by."""
        return left_out(self.rows)


def write_predictions(predictions: Sequence[Any], path: Path) -> None:
    """Write a JSON line per row: the fields of a dataclass such as `Prediction` that are not None."""
    lines = [
        json.dumps({name: value for name, value in asdict(one).items() if value is not None}, ensure_ascii=False)
        for one in predictions
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically("".join(f"{line}\n" for line in lines), path)


def write_scores(result: CheckpointResult, recipe: Recipe, max_new_tokens: int, backend: str, directory: Path) -> None:
    """Write `scores-base.json` or `scores-tuned.json`.

    It has the data and limits used, a digest of the rows, how many of them are left out for which reason, and of every
    score hits, count and 95 % interval.
    """
    content = {
        "checkpoint": result.checkpoint,
        "task": recipe.training.task,
        "extract": recipe.training.extract,
        "dataset": recipe.script.dataset_name,
        "dataset_config": recipe.script.dataset_config,
        "split": recipe.script.dataset_test_split,
        "rows": len(result.rows),
        "rows_digest": _digest(result.predictions),
        "left_out": result.left_out,
        "max_new_tokens": max_new_tokens,
        "backend": backend,
        "date": datetime.now(UTC).date().isoformat(),
        "scores": {name: asdict(rate) | {"interval": rate.interval} for name, rate in result.scores.items()},
    }
    write_atomically(json.dumps(content, indent=1) + "\n", directory / SCORES_FILES[result.checkpoint])


def earlier_scores(checkpoint: Checkpoint, directory: Path) -> dict[str, Any]:
    """The content of a checkpoint's scores file; empty if there is none.

    Raises:
        ValueError: The file cannot be read.
    """
    return read_json(directory / SCORES_FILES[checkpoint])


def _digest(predictions: Sequence[Prediction]) -> str:
    """SHA-256 of the rows: numbers, sources and golds."""
    rows = [(one.row_index, one.source, one.gold) for one in predictions]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
