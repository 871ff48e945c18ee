"""Reads the records of a JSON Lines, JSON, CSV, TSV or Parquet file in bounded memory, each with its place.

Only a `.json` document is held in memory as a whole; its size is limited.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from llm_jepa.files.text_lines import MAX_DOCUMENT_BYTES, MAX_LINE_BYTES, read_lines

PARQUET_BATCH_ROWS = 256
UNCHECKED_HINT = "`--unchecked` accepts it, and the card then says so."

NOT_AS_PUBLISHED = "The file does not have its published form."


class IncompleteRecordError(ValueError):
    """A record lacks a view, or the view is not a text."""


@dataclass(frozen=True)
class Record:
    """One record of a file.

    Attributes:
        values: Column -> value.
        place: The file and the line.
        column_hint: The remedy if the first record of a file lacks a column: then the file or an option is wrong, not
            this record. None for other records.
    """

    values: dict[str, Any]
    place: str
    column_hint: str | None = None

    def text(self, name: str) -> str:
        """A column's text, without white space around it.

        Raises:
            IncompleteRecordError: The column is missing or empty, or does not hold a text.
        """
        return checked_text(self.column(name), name)

    def texts(self, name: str) -> list[str]:
        """A column's list of texts. Raises as `text`."""
        value = self.column(name)
        if not isinstance(value, list) or not value:
            raise IncompleteRecordError(f"the column {name!r} holds {value!r:.60}, not a list of texts.")
        return [checked_text(text, name) for text in value]

    def choice(self, name: str, count: int) -> int:
        """A column's index of one of `count` choices, from 0.

        Raises:
            IncompleteRecordError: The column does not hold such an index.
        """
        value = self.column(name)
        if not isinstance(value, int) or not 0 <= value < count:
            raise IncompleteRecordError(
                f"the column {name!r} holds {value!r:.60}, not a number from 0 to {count - 1}."
            )
        return value

    def column(self, name: str) -> Any:
        """A column's value.

        Raises:
            IncompleteRecordError: There is no such column.
            ValueError: The same, for the first record of a file.
        """
        if name in self.values:
            return self.values[name]
        message = f"there is no column {name!r} among {list(self.values)}."
        if self.column_hint is not None:
            raise ValueError(f"{self.place}: {message} {self.column_hint}")
        raise IncompleteRecordError(message)


def checked_text(value: Any, name: str) -> str:
    """The text without white space around it.

    Raises:
        IncompleteRecordError: The value is not a string, is empty, or cannot be encoded as UTF-8.
    """
    if not isinstance(value, str):
        raise IncompleteRecordError(f"the column {name!r} holds {value!r:.60}, not a text.")
    text = value.strip()
    if not text:
        raise IncompleteRecordError(f"the column {name!r} is empty.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise IncompleteRecordError(f"the column {name!r} holds an unpaired surrogate ({error.reason}).") from error
    return text


def read_records(path: Path, columns: Sequence[str] | None = None) -> Iterator[Record]:
    """Read the records of a file by its suffix.

    Args:
        path: `.jsonl`, `.json` (a list of objects), `.csv`, `.tsv` or `.parquet`.
        columns: Column names of a CSV or TSV file without a header.

    Raises:
        ValueError: The suffix is not supported, or the file cannot be read. The message names file and line.
    """
    if path.suffix not in READERS:
        raise ValueError(f"`{path}` must end in one of {', '.join(READERS)}.")
    if path.suffix in (".csv", ".tsv"):
        return _read_separated(path, columns)
    return READERS[path.suffix](path)


def _read_json_lines(path: Path) -> Iterator[Record]:
    for number, line in enumerate(read_lines(path, MAX_LINE_BYTES), start=1):
        if line.strip():
            place = f"`{path}`, line {number}"
            yield Record(_json_object(line, place), place)


def _json_object(text: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: not JSON: {error.msg} (column {error.colno}).") from error
    if not isinstance(value, dict):
        raise ValueError(f"{place}: a row must be an object, not {text.strip():.40}.")
    return value


def _read_json(path: Path) -> Iterator[Record]:
    if path.stat().st_size > MAX_DOCUMENT_BYTES:
        raise ValueError(
            f"`{path}` has more than {MAX_DOCUMENT_BYTES} bytes. Convert it to JSON Lines, read line by line."
        )
    return json_records("".join(read_lines(path)), f"`{path}`")


def json_records(document: str, name: str) -> Iterator[Record]:
    """The records of a JSON document that is a list of objects.

    Raises:
        ValueError: The document is something else. The message begins with `name`.
    """
    try:
        items = json.loads(document)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}, line {error.lineno}: not JSON: {error.msg}.") from error
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(f"{name} must hold a list of objects.")
    for number, item in enumerate(items, start=1):
        yield Record(item, f"{name}, item {number}")


def checked_records(
    records: Iterable[Record], name: str, num_rows: int | None, column_hint: str = NOT_AS_PUBLISHED
) -> Iterator[Record]:
    """Yield the records, the first with its `column_hint`, and check their number at the end.

    Raises:
        ValueError: The number of records is not `num_rows`. With None, any number is accepted.
    """
    number = 0
    for record in records:
        number += 1
        yield record if number > 1 else replace(record, column_hint=column_hint)
    if num_rows not in (None, number):
        raise ValueError(f"{name} has {number} rows; {num_rows} were published. {UNCHECKED_HINT}")


def _read_separated(path: Path, columns: Sequence[str] | None = None) -> Iterator[Record]:
    """Read CSV with quotes, or TSV without: a quotation mark in a TSV file is an ordinary character."""
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = read_lines(path, MAX_LINE_BYTES)
    if path.suffix == ".tsv":
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, strict=True)
    names = list(columns) if columns is not None else None
    try:
        for fields in reader:
            place = f"`{path}`, line {reader.line_num}"
            if names is None:
                names = fields
            elif fields and len(fields) != len(names):
                raise ValueError(f"{place}: {len(fields)} fields, not {len(names)} ({', '.join(names)}).")
            elif fields:
                yield Record(dict(zip(names, fields, strict=True)), place)
    except csv.Error as error:
        raise ValueError(f"`{path}`, line {reader.line_num}: {error}.") from error


def _read_parquet(path: Path) -> Iterator[Record]:
    try:
        with pa.parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(PARQUET_BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Record(values, f"`{path}`, row {number}")
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(f"`{path}` cannot be read as Parquet: {error}") from error


def read_aligned_lines(source: Path, target: Path) -> Iterator[Record]:
    """Read records with the columns `source` and `target` from two files, line by line.

    Raises:
        ValueError: A file cannot be read, or, at the end of the shorter one, the files differ in length.
    """
    lines = [read_lines(path, MAX_LINE_BYTES) for path in (source, target)]
    for number, pair in enumerate(zip_longest(*lines), start=1):
        if None in pair:
            shorter, longer = (source, target) if pair[0] is None else (target, source)
            raise ValueError(
                f"`{shorter}` ends after line {number - 1}, but `{longer}` does not. Line n of one file must belong "
                "to line n of the other."
            )
        yield Record(dict(zip(("source", "target"), pair, strict=True)), f"`{source}` and `{target}`, line {number}")


READERS = {
    ".jsonl": _read_json_lines,
    ".json": _read_json,
    ".csv": _read_separated,
    ".tsv": _read_separated,
    ".parquet": _read_parquet,
}
"""File name suffix -> reader."""
