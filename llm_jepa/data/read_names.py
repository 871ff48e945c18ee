"""Renames the columns that rows are made of, so that no new column has the name of an old one.

`Dataset.map` casts a new column to the type of the old one of its name: of a number in a column `target` it would make
the text '7' a number again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

PREFIX = "read: "

Convert = Callable[[dict[str, Any]], dict[str, Any]]


def with_read_names(dataset: Dataset, convert: Convert, read: Sequence[str]) -> tuple[Dataset, Convert, list[str]]:
    """The data set with the columns `read` renamed, the function that takes its rows, and the new names."""
    names = {name: f"{PREFIX}{name}" for name in read}
    return dataset.rename_columns(names), _OfRenamedColumns(convert), list(names.values())


@dataclass(frozen=True)
class _OfRenamedColumns:
    convert: Convert

    def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
        return self.convert({name.removeprefix(PREFIX): value for name, value in example.items()})
