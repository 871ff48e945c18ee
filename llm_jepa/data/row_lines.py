"""Which line of a text file a row comes from."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from datasets import Dataset, ReadInstruction

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.json_lines import is_document
from llm_jepa.data.loading import load_split
from llm_jepa.data.rows import ORIGINAL_ROW_COLUMN, AnyDataset, RowError, column_names
from llm_jepa.data.source import DELIMITERS, QUOTING, data_suffix
from llm_jepa.data.view_pairs import expand_rows
from llm_jepa.files.text_lines import MAX_LINE_BYTES, read_lines

if TYPE_CHECKING:
    from llm_jepa.data.source import AnySource


@contextmanager
def row_errors_located(
    script: "AnySource", datasets: dict[str, tuple[str, AnyDataset | None]], mapping: ColumnMapping
) -> Iterator[None]:
    """Name the file and the line of a row that cannot be used, where the data are one text file; else its number.

    Of a row that was expanded from another, the line and the number are those of the other.

    Args:
        script: Names the data.
        mapping: Says whether rows are expanded.
        datasets: Name of the data in a `RowError`, "" if it has none -> their split, and the rows that were loaded,
            or that these were expanded to.

    Raises:
        ValueError: In place of a `RowError`.
    """
    try:
        yield
    except RowError as error:
        split, dataset = datasets.get(error.data_name or "", ("", None))
        message, row_index = str(error), error.row_index
        if isinstance(dataset, Dataset) and mapping.makes_several_rows:
            if ORIGINAL_ROW_COLUMN in dataset.column_names:
                dataset = load_split(script, split)
            original = _original_row(dataset, mapping, row_index)
            if original is not None:
                message = f"Row {row_index}, made of row {original} of the data: {error.reason}"
                row_index = original
        line = line_of_row(Path(script.dataset_name or "").expanduser(), split, row_index, dataset)
        raise ValueError(
            message if line is None else f"`{script.dataset_name}`, line {line}: {error.reason}"
        ) from error


def _original_row(loaded: AnyDataset, mapping: ColumnMapping, row_index: int) -> int | None:
    """The loaded row that an expanded one comes from; None if no row was expanded, or `expand_rows` had the error."""
    try:
        expanded = expand_rows(loaded, mapping)
    except RowError:
        return None
    return expanded[ORIGINAL_ROW_COLUMN][row_index] if ORIGINAL_ROW_COLUMN in column_names(expanded) else None


def line_of_row(file: Path, split: str, row_index: int, dataset: AnyDataset | None) -> int | None:
    """The line, from 1, of a file on which a row of a split begins; None if the file does not consist of lines.

    Example:
        Row 0 of `train[50%:]` of a JSON Lines file with 4 rows and a blank first line is its row 2, on line 4.
    """
    if not file.is_file() or data_suffix(file) not in (".jsonl", ".txt", *DELIMITERS) or dataset is None:
        return None
    if data_suffix(file) == ".jsonl" and is_document(file):
        return None
    row = _row_of_file(split, row_index, dataset)
    return next(islice(_first_lines(file), row, None), None)


def _row_of_file(split: str, row_index: int, dataset: AnyDataset) -> int:
    """The index in the whole file of a row of a slice."""
    if not isinstance(dataset, Dataset) or "[" not in split:
        return row_index
    assert dataset.info.splits is not None, "`datasets` counts the rows of a file"
    lengths = {name: info.num_examples for name, info in dataset.info.splits.items()}
    for part in ReadInstruction.from_spec(split).to_absolute(lengths):
        if row_index < part.to - part.from_:
            return part.from_ + row_index
        row_index -= part.to - part.from_
    raise AssertionError("the row is of one of the parts")


def _first_lines(file: Path) -> Iterator[int]:
    """The line on which each row begins. Loaders skip blank lines; the first row of a table is its header."""
    lines = read_lines(file)
    if data_suffix(file) in (".txt", ".jsonl"):
        yield from (number for number, line in enumerate(lines, start=1) if line.strip())
    else:
        csv.field_size_limit(MAX_LINE_BYTES)
        sign = DELIMITERS[data_suffix(file)]
        reader, begins, is_header = csv.reader(lines, delimiter=sign, quoting=QUOTING[sign]), 1, True
        for fields in reader:
            if fields and not is_header:
                yield begins
            is_header &= not fields
            begins = reader.line_num + 1
