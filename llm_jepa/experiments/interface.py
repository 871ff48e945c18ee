"""What an experiment asks of a kind of recipe: to read it, to train and evaluate a cell, to count its cost.

`text_kind` and `vision_kind` answer, and `kinds` chooses between them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from llm_jepa.data.row_keys import Key


@dataclass(frozen=True)
class ArmCost:
    """The cost of an arm's training, over the rows that all arms keep.

    Attributes:
        num_rows: Rows of an epoch.
        steps: Optimizer steps of the recipe's schedule.
        rows_per_step: Mean rows of a step.
        flops_per_row: Mean over rows, with loss dropout at its expectation.
        trained_parameters: Of the model, without an objective's own networks.
    """

    num_rows: int
    steps: int
    rows_per_step: float
    flops_per_row: float
    trained_parameters: int

    @property
    def flops_per_step(self) -> float:
        return self.rows_per_step * self.flops_per_row


@dataclass(frozen=True)
class Outcome:
    """What a finished run scores on its test rows.

    Attributes:
        scores: Score -> its share of the rows that it counts.
        rows: Score -> right or wrong of each row; None where the score does not count the row.
        row_indices: The number of each row in its split.
        clusters: Equal for rows that are not independent: of one row of the data set, or about one picture.
        predictions: A dataclass for each row, written beside the result.
        left_out: Reason -> how many rows the task's own scores leave out for it.
        problems: Place of a row -> why it counts as wrong undecided.
    """

    scores: dict[str, float]
    rows: dict[str, list[bool | None]]
    row_indices: list[int]
    clusters: list[int]
    predictions: Sequence[Any]
    left_out: dict[str, int] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)


class HeldOut(Protocol):
    """The test rows of a cell."""

    def scores(self, model: Any, tokenizer: Any) -> dict[str, float]:
        """What a model in evaluation mode scores during its training; `tokenizer` is what its trainer holds."""

    def evaluate(self, directory: Path) -> Outcome:
        """What the finished run scores; the cell's directory holds what an interrupted evaluation goes on from."""


class TrainRows(Protocol):
    """The rows that a recipe would train on by itself.

    Attributes:
        num_rows: Before any is dropped.
        dropped: The numbers of those that it drops.
    """

    num_rows: int
    dropped: list[int]

    def fingerprint(self, excluded: frozenset[int]) -> str:
        """A fingerprint of what training sees without the excluded rows."""

    def cost(self, recipe: Any, excluded: frozenset[int]) -> ArmCost:
        """What training costs without the excluded rows."""


class RecipeKind(Protocol):
    """One kind of recipe. Each method that reads rows raises ValueError where training or evaluation would refuse."""

    def rows_key(self, settings: Mapping[str, Any]) -> str:
        """Equal for settings that share their prepared rows."""

    def train_rows(self, recipe: Any) -> TrainRows:
        """The rows of the training split, prepared."""

    def check_files(self, recipe: Any, split: str) -> None:
        """Check the files that the rows of a split name."""

    def row_keys(self, recipe: Any, split: str) -> list[Key]:
        """The digest of each row of a split, by which overlaps are found."""

    def test_fingerprint(self, recipe: Any) -> str:
        """A fingerprint of all that the rows of the test split are scored by."""

    def held_out(self, recipe: Any, max_rows: int | None, max_new_tokens: int, batch_size: int) -> HeldOut:
        """The rows of the test split, or a sample of them, checked."""
