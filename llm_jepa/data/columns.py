"""Checks that the columns which a recipe names are in its local text files, without loading them. Imports no torch."""

import csv
import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_jepa.data.source import DELIMITERS, data_suffix
from llm_jepa.files.text_lines import read_lines
from llm_jepa.settings.view_fields import missing_columns

NAMING_KEYS = (
    "source_column", "target_column", "view_columns", "choices_column", "source_view_column", "target_view_column",
    "image_column", "question_column", "answer_column", "candidates_column",
)  # fmt: skip


def check_named_columns(settings: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Check that JSON Lines, CSV and TSV files have the columns that a recipe names. Every file is read if one lacks.

    Raises:
        ValueError: A column is in no row of any file.
    """
    wanted = [(key, expression) for key in NAMING_KEYS for expression in _expressions(settings.get(key))]
    columns: dict[str, None] = {}
    for file in files:
        if data_suffix(file) not in (".jsonl", *DELIMITERS):
            return
        for names in _columns_of_rows(file):
            columns |= dict.fromkeys(names)
            wanted = [(key, expression) for key, expression in wanted if missing_columns(expression, columns)]
            if not wanted or "input_ids" in columns:
                return
    if not columns:
        return
    for key, expression in wanted:
        missing = missing_columns(expression, columns)
        near = difflib.get_close_matches(missing[0], columns, n=1)
        meant = f" Did you mean `{near[0]}`?" if near else ""
        raise ValueError(
            f"`{key}: {expression}`: `{files[0]}` has no column {', '.join(map(repr, missing))}. It has: "
            f"{', '.join(columns)}.{meant}"
        )


def _expressions(value: Any) -> list[str]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _columns_of_rows(file: Path) -> Iterator[Sequence[str]]:
    """The names of the fields of each row of JSON Lines up to one that cannot be read; of a table, its header."""
    lines = read_lines(file)
    try:
        if data_suffix(file) in DELIMITERS:
            yield next(csv.reader(lines, delimiter=DELIMITERS[data_suffix(file)]), [])
            return
        for line in filter(str.strip, lines):
            row = json.loads(line)
            if isinstance(row, dict):
                yield [*row]
    except (ValueError, csv.Error):  # loading says which line
        return
