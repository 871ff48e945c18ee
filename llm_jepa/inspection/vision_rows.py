"""Shows a VL-JEPA recipe's rows as they are, or beside what runs have answered on the held-out ones."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from PIL import Image

from llm_jepa.data.picture_files import picture_directory
from llm_jepa.files.text_lines import read_lines
from llm_jepa.scoring.tasks import Rate
from llm_jepa.vision.building import load_processor, load_rows
from llm_jepa.vision.pictures import read_frames
from llm_jepa.vision.recipe import VisionRecipe
from llm_jepa.vision.rows import KIND_COLUMN, prepare_rows

PREDICTIONS_FILE = "predictions-tuned.jsonl"
ALL = "all"


@dataclass(frozen=True)
class RunAnswer:
    """What a run answered, and the strict rank of the right answer among the candidates."""

    run: str
    prediction: str
    rank: int


@dataclass(frozen=True)
class VisionRow:
    """A row with its pictures: one, the frames of a video, or none where the recipe reads none."""

    index: int
    pictures: list[Image.Image]
    question: str | None
    answer: str
    candidates: list[str]
    answers: list[RunAnswer]


@dataclass(frozen=True)
class VisionInspection:
    """A recipe's data.

    Attributes:
        split: The split to train on or, beside runs, to test on.
        num_rows: Of the split.
        rows: The first of them.
        accuracy: Run -> kind of question -> share of right answers; `all` is over every kind.
        chance: Kind of question -> accuracy of a random choice among the candidates; empty without runs.
    """

    split: str
    num_rows: int
    rows: list[VisionRow]
    accuracy: dict[str, dict[str, Rate]]
    chance: dict[str, float]


def inspect_vision_recipe(recipe: VisionRecipe, num_rows: int, runs: Sequence[Path] = ()) -> VisionInspection:
    """Check a recipe's rows as training does, and show the first of them.

    Args:
        runs: Directories of runs that `llm-jepa eval` has evaluated on the recipe's test split.

    Raises:
        ValueError: Training would refuse these data, or a run has no predictions or some of other rows.
    """
    args, directory = recipe.training, picture_directory(recipe.source.dataset_name)
    split = args.dataset_test_split if runs else args.dataset_train_split
    rows = load_rows(recipe, split)
    prepared = prepare_rows(rows, args, load_processor(args), split, directory)
    found = {name: read_predictions(run, prepared) for name, run in _names(runs).items()}
    kinds = [str(kind) for kind in rows[KIND_COLUMN]] if KIND_COLUMN in rows.column_names else [ALL] * len(rows)
    return VisionInspection(
        split,
        len(rows),
        [
            _shown(row, {name: answers.get(row["row_index"]) for name, answers in found.items()}, directory)
            for row in prepared.select(range(min(num_rows, len(prepared))))
        ],
        {
            name: _by_kind(kinds, {i: one["rank"] == 1 for i, one in answers.items()})
            for name, answers in found.items()
        },
        _chance(kinds, next(iter(found.values()), {})),
    )


def _names(runs: Sequence[Path]) -> dict[str, Path]:
    """The name of each run's directory, or its path where two names are equal."""
    named = {run.resolve().name: run for run in runs}
    return named if len(named) == len(runs) else {str(run): run for run in runs}


def read_predictions(run: Path, rows: Dataset) -> dict[int, dict[str, Any]]:
    """Index of a row -> what a run answered.

    Raises:
        ValueError: There is no such file, or it is of other rows.
    """
    path = run / PREDICTIONS_FILE
    if not path.is_file():
        raise ValueError(f"There is no `{path}`. Run `llm-jepa eval` on the recipe of that run first.")
    found = {one["row_index"]: one for one in map(json.loads, read_lines(path))}
    answers = rows["answer"][:]
    for index, one in found.items():
        if index >= len(answers) or answers[index].strip() != one["gold"]:
            raise ValueError(f"`{path}` is of other rows: row {index} has another answer. Evaluate the run again.")
    return found


def _shown(row: dict[str, Any], found: dict[str, dict[str, Any] | None], directory: Path | None) -> VisionRow:
    place = f"row {row['row_index']}"
    return VisionRow(
        row["row_index"],
        read_frames(row["image"], place, directory) if "image" in row else [],
        row.get("question"),
        row["answer"],
        row.get("candidates") or [],
        [RunAnswer(name, one["prediction"], one["rank"]) for name, one in found.items() if one is not None],
    )


def _by_kind(kinds: Sequence[str], is_right: dict[int, bool]) -> dict[str, Rate]:
    groups: dict[str, list[bool]] = {ALL: [*is_right.values()]}
    for index, right in is_right.items():
        if kinds[index] != ALL:
            groups.setdefault(kinds[index], []).append(right)
    return {kind: Rate(sum(values), len(values)) for kind, values in groups.items()}


def _chance(kinds: Sequence[str], answers: dict[int, dict[str, Any]]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for index, one in answers.items():
        for kind in dict.fromkeys((ALL, kinds[index])):
            groups.setdefault(kind, []).append(1 / one["num_candidates"])
    return {kind: sum(values) / len(values) for kind, values in groups.items()}
