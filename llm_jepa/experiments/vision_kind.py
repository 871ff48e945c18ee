"""Recipes of VL-JEPA: rows of pictures, costs counted as `llm-jepa plan` does, and answers chosen among candidates."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from llm_jepa.data.picture_files import picture_directory, with_undecoded_pictures
from llm_jepa.data.row_keys import Key, digest, fingerprint
from llm_jepa.evaluation.vision import (
    HeldOutQuestions,
    VisionPrediction,
    chosen_answers,
    evaluate_vision,
    load_held_out,
    with_features,
)
from llm_jepa.experiments.interface import ArmCost, Outcome
from llm_jepa.experiments.score_choice import ACCURACY
from llm_jepa.planning.vision import draw_batch
from llm_jepa.training.schedule import planned_steps, rows_per_step
from llm_jepa.vision.building import load_processor, load_rows
from llm_jepa.vision.feature_cache import picture_key
from llm_jepa.vision.picture_check import check_pictures, undecoded_pictures
from llm_jepa.vision.recipe import VisionRecipe
from llm_jepa.vision.rows import arranged_rows, row_columns

KEYS_OF_ROWS = (
    *("dataset_name", "dataset_config", "dataset_train_split", "inputs", "answer_form"),
    *("image_column", "question_column", "answer_column", "candidates_column"),
    *("vision_encoder", "language_model", "text_encoder", "max_question_tokens", "max_answer_tokens"),
)
"""Arms in which these are the same share their prepared rows."""


class VisionTrainRows:
    """A `TrainRows` of pictures and texts. None is dropped: what is too long is refused."""

    def __init__(self, recipe: VisionRecipe):
        args = recipe.training
        self.dropped: list[int] = []
        self.rows = load_rows(recipe, args.dataset_train_split)
        self.num_rows = len(self.rows)
        directory = picture_directory(recipe.source.dataset_name)
        prepared = arranged_rows(self.rows, args, load_processor(args), "train")
        self._fingerprint = fingerprint(_digests(prepared, prepared.column_names, "image", directory))

    def fingerprint(self, excluded: frozenset[int]) -> str:
        """Of the pictures, where the arm reads them, and the texts."""
        return self._fingerprint

    def cost(self, recipe: VisionRecipe, excluded: frozenset[int]) -> ArmCost:
        """With texts of the mean length. Features of a cache are not computed anew in a step."""
        args = recipe.training
        batch = draw_batch(args, self.rows)
        return ArmCost(
            self.num_rows,
            planned_steps(self.num_rows, args),
            rows_per_step(self.num_rows, args),
            batch.flops_per_row(),
            sum(part.trained for part in batch.model.parts().values()),
        )


class VisionHeldOut:
    """A `HeldOut` whose answers are chosen among candidates. The questions about one picture are a cluster."""

    def __init__(self, recipe: VisionRecipe, max_rows: int | None, batch_size: int):
        self.recipe, self.max_rows, self.batch_size = recipe, max_rows, batch_size
        self.held_out: HeldOutQuestions = load_held_out(recipe, load_processor(recipe.training), max_rows=max_rows)
        self._has_features = False
        self.clusters = picture_clusters(recipe, self.held_out.indices)

    def scores(self, model: Any, tokenizer: Any) -> dict[str, float]:
        """Accuracy, over all rows and by kind of question."""
        if not self._has_features:
            self.held_out, self._has_features = with_features(self.held_out, self.recipe, model), True
        return _shares(outcomes(chosen_answers(model, self.held_out, self.batch_size)))

    def evaluate(self, directory: Path) -> Outcome:
        """As `llm-jepa eval` does."""
        predictions = evaluate_vision(self.recipe, max_rows=self.max_rows, batch_size=self.batch_size).predictions
        rows = outcomes(predictions)
        return Outcome(_shares(rows), rows, [one.row_index for one in predictions], self.clusters, predictions)


class VisionKind:
    """The `RecipeKind` of VL-JEPA."""

    def rows_key(self, settings: Mapping[str, Any]) -> str:
        """Of the settings that decide the rows."""
        return json.dumps([settings.get(key) for key in KEYS_OF_ROWS])

    def train_rows(self, recipe: VisionRecipe) -> VisionTrainRows:
        """As the trainer prepares them."""
        return VisionTrainRows(recipe)

    def check_files(self, recipe: VisionRecipe, split: str) -> None:
        """The pictures, also for an arm that reads none."""
        rows, image = load_rows(recipe, split), recipe.training.image_column
        if image in rows.column_names:
            check_pictures(undecoded_pictures(rows, image), picture_directory(recipe.source.dataset_name))

    def row_keys(self, recipe: VisionRecipe, split: str) -> list[Key]:
        """By picture, question and answer, also for an arm that reads no picture."""
        args = recipe.training
        return _split_digests(recipe, split, [args.image_column, args.question_column, args.answer_column])

    def test_fingerprint(self, recipe: VisionRecipe) -> str:
        """Of all that the rows have."""
        columns = [recipe.training.image_column, *row_columns(recipe.training).values()]
        return fingerprint(_split_digests(recipe, recipe.training.dataset_test_split, columns))

    def held_out(
        self, recipe: VisionRecipe, max_rows: int | None, max_new_tokens: int, batch_size: int
    ) -> VisionHeldOut:
        """With pictures that can be read, and candidates that have the answer. `max_new_tokens` is not read."""
        return VisionHeldOut(recipe, max_rows, batch_size)


def outcomes(predictions: Sequence[VisionPrediction]) -> dict[str, list[bool | None]]:
    """Score -> right or wrong of each row: `accuracy`, and for each kind of question `accuracy_KIND`.

    An answer is right if it ranks strictly before every other candidate.
    """
    is_right = [one.rank == 1 for one in predictions]
    kinds = dict.fromkeys(one.kind for one in predictions if one.kind is not None)
    by_kind = {
        f"{ACCURACY}_{kind}": [
            right if one.kind == kind else None for right, one in zip(is_right, predictions, strict=True)
        ]
        for kind in kinds
    }
    return {ACCURACY: [*is_right], **by_kind}


def picture_clusters(recipe: VisionRecipe, indices: Sequence[int]) -> list[int]:
    """The first row, of those given of the test split, that has the same picture; also for an arm that reads none.

    Example: of the rows 3, 5, 6 with the pictures a, b, a the clusters are 3, 5, 3.
    """
    rows, image = load_rows(recipe, recipe.training.dataset_test_split).select(indices), recipe.training.image_column
    if image not in rows.column_names:
        return [*indices]
    keys = _digests(
        with_undecoded_pictures(rows, image), [image], image, picture_directory(recipe.source.dataset_name)
    )
    first: dict[Key, int] = {}
    return [first.setdefault(key, index) for key, index in zip(keys, indices, strict=True)]


def _shares(rows: Mapping[str, Sequence[bool | None]]) -> dict[str, float]:
    counted = {name: [value for value in values if value is not None] for name, values in rows.items()}
    return {name: sum(values) / len(values) for name, values in counted.items()}


def _split_digests(recipe: VisionRecipe, split: str, columns: Sequence[str | None]) -> list[Key]:
    rows, directory = load_rows(recipe, split), picture_directory(recipe.source.dataset_name)
    image = recipe.training.image_column
    if image in rows.column_names:
        rows = with_undecoded_pictures(rows, image)
    there = [column for column in dict.fromkeys(columns) if column is not None and column in rows.column_names]
    return _digests(rows, there, image, directory)


def _digests(rows: Dataset, columns: Sequence[str], image: str, directory: Path | None) -> list[Key]:
    """The digest of each row by some of its columns; a picture counts by its content."""
    values = [_picture_keys(rows[column][:], directory) if column == image else rows[column][:] for column in columns]
    return [digest(row) for row in zip(*values, strict=True)]


def _picture_keys(pictures: Sequence[Any], directory: Path | None) -> list[str]:
    """A file that comes in several rows is read once."""
    paths = {picture for picture in pictures if isinstance(picture, str)}
    of_path = {path: picture_key(path, directory) for path in paths}
    return [of_path[one] if isinstance(one, str) else picture_key(one, directory) for one in pictures]
