"""What an evaluation finds of a checkpoint, and the files that hold it."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_jepa.files.atomic import write_atomically, write_json
from llm_jepa.models.checkpoint_choice import Checkpoint
from llm_jepa.recipe import Recipe
from llm_jepa.runs.record import SCORES_FILES, read_json
from llm_jepa.scoring.choice import ChoiceLikelihoods
from llm_jepa.scoring.tasks import Rate, RowScores, left_out

if TYPE_CHECKING:
    from llm_jepa.data.source import AnySource

logger = logging.getLogger(__name__)


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


def write_scores(
    result: CheckpointResult,
    recipe: Recipe,
    scored: Mapping[str, Any],
    max_new_tokens: int,
    backend: str,
    directory: Path,
    rows_trained_on: int | None = None,
) -> None:
    """Write `scores-base.json` or `scores-tuned.json`.

    It has the data, prompts, precision and limits used, a digest of the rows, how many of them are left out for which
    reason, how many the checkpoint was trained on, if that is known, and of every score hits, count and 95 % interval.

    Args:
        scored: What the file says of data, prompts and precision.
    """
    content = {
        "checkpoint": result.checkpoint,
        "task": recipe.training.task,
        "extract": recipe.training.extract,
        **scored,
        "rows_digest": _digest(result.predictions),
        "left_out": result.left_out,
        **({} if rows_trained_on is None else {"rows_trained_on": rows_trained_on}),
        "max_new_tokens": max_new_tokens,
        "backend": backend,
        "date": datetime.now(UTC).date().isoformat(),
        "scores": {name: asdict(rate) | {"interval": rate.interval} for name, rate in result.scores.items()},
    }
    write_json(content, directory / SCORES_FILES[result.checkpoint])


def warn_of_replaced_scores(checkpoints: Sequence[Checkpoint], directory: Path, scored: Mapping[str, Any]) -> None:
    """Log a warning for each checkpoint whose scores in a directory are of other data or prompts, or of more rows.

    Args:
        scored: What will be scored: `rows`, how many they are, and what else a scores file says of data and prompts.
            What the file of an earlier version does not say is not compared.

    Raises:
        ValueError: A scores file cannot be read.
    """
    for checkpoint in checkpoints:
        before = read_json(directory / SCORES_FILES[checkpoint])
        has_as_many = before.get("rows") == scored["rows"]  # else it has other prompts
        ignored = {"rows"} if has_as_many else {"rows", "prompts_digest"}
        differing = [name for name, value in scored.items() if before.get(name, value) != value]
        other = [name.removesuffix("_digest") for name in differing if name not in ignored]
        if other or before.get("rows", 0) > scored["rows"]:
            logger.warning(
                f"{checkpoint}: the scores of {scored['rows']} rows ({scored['split']}) replace those of "
                f"{before['rows']} rows ({before['split']}, {before['date']}){'; other ' if other else ''}"
                f"{' and '.join(other)}. To keep them, name another directory: --predictions DIR."
            )


def scored_data(source: "AnySource", num_rows: int) -> dict[str, Any]:
    """What a scores file says of the data."""
    return {
        "dataset": source.dataset_name,
        "dataset_config": source.dataset_config,
        "split": source.dataset_test_split,
        "rows": num_rows,
    }


def _digest(predictions: Sequence[Prediction]) -> str:
    """SHA-256 of the rows: numbers, sources and golds."""
    rows = [(one.row_index, one.source, one.gold) for one in predictions]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
