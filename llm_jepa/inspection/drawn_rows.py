"""Draws rows of a data set that stand for all, and keeps the numbers that training gives them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, IterableDataset

from llm_jepa.config import JEPAConfig
from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.json_types import ColumnType, features_of, table_of, widen_types
from llm_jepa.data.preparation import all_excluded_error, read_excluded_rows
from llm_jepa.data.rows import AnyDataset, RowError, is_tokenised
from llm_jepa.data.unread_columns import without_unread_columns
from llm_jepa.data.view_pairs import expand_rows
from llm_jepa.evaluation.held_out_rows import sample_indices

STREAMED_ROWS = 1000


@dataclass(frozen=True)
class DrawnRows:
    """Rows to prepare: all of a data set, the first of a stream, or a sample.

    Attributes:
        numbers: The `row_index` that training gives each row of a sample; None if the trainer's own are right.
        total_rows: What the sample is drawn from, without excluded rows; None if it is no sample.
        is_partial: Whether the data set has more rows.
    """

    rows: Dataset
    numbers: list[int] | None = None
    total_rows: int | None = None
    is_partial: bool = False

    @contextmanager
    def errors_numbered(self) -> Iterator[None]:
        """Give the `RowError` of a row of the sample the row's number.

        Raises:
            RowError: In place of one with the row's place in the sample.
        """
        try:
            yield
        except RowError as error:
            if self.numbers is not None:
                error.row_index = self.numbers[error.row_index]
            raise

    def numbered(self, prepared: Dataset) -> Dataset:
        """The prepared rows of the sample with their numbers as `row_index`."""
        if self.numbers is None:
            return prepared
        numbers = [self.numbers[place] for place in prepared["row_index"]]
        return prepared.remove_columns("row_index").add_column("row_index", numbers)


def _as_dataset(stream: IterableDataset) -> Dataset:
    """The rows of a stream, each value as it is written: JSON may mix the types of a column."""
    rows = list(stream)
    if stream.features is not None:
        return Dataset.from_list(rows, stream.features)
    types: dict[str, ColumnType] = {}
    for row in rows:
        widen_types(types, row)
    return Dataset(table_of(rows, features_of(types)))


def draw_rows(dataset: AnyDataset, args: JEPAConfig, max_rows: int | None) -> DrawnRows:
    """Draw `max_rows` of the rows that `excluded_rows` leaves, rows of several pairs expanded as in training.

    Raises:
        ValueError: Rows cannot be expanded, or `excluded_rows` leaves none.
    """
    if isinstance(dataset, IterableDataset):
        return DrawnRows(_as_dataset(dataset.take(max_rows or STREAMED_ROWS)), is_partial=True)
    if max_rows is None or len(dataset) <= max_rows:
        return DrawnRows(dataset)
    mapping = ColumnMapping.from_args(args)
    dataset = without_unread_columns(dataset, mapping, "train")
    if not is_tokenised(dataset):
        dataset = expand_rows(dataset, mapping, args.dataset_num_proc)
    excluded = frozenset() if args.excluded_rows is None else read_excluded_rows(Path(args.excluded_rows))
    left = [number for number in range(len(dataset)) if number not in excluded]
    if not left:
        raise all_excluded_error(len(dataset))
    numbers = [left[place] for place in sample_indices(len(left), max_rows)]
    return DrawnRows(dataset.select(numbers), numbers, len(left), is_partial=len(numbers) < len(left))
