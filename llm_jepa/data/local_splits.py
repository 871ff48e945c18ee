"""The splits of local data and the files of each, known without reading a row. Imports no torch."""

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_jepa.data.source import SAVED_DATASET, SAVED_DATASET_DICT, DataSource, is_saved_dataset

if TYPE_CHECKING:
    from llm_jepa.data.source import AnySource


def source_of(settings: Mapping[str, Any]) -> DataSource:
    """The data that a recipe's settings name."""
    return DataSource(**{field.name: settings[field.name] for field in fields(DataSource) if field.name in settings})


def names_in_split(split: str) -> list[str]:
    """`train[:90%]+dev` -> `[train, dev]`."""
    return [part.partition("[")[0].strip() for part in split.split("+")]


def files_by_split(source: "AnySource") -> dict[str, list[Path]]:
    """The files of each split of local data.

    Empty for data on the Hub, and for what cannot be loaded: `load_split` says why.
    """
    path = Path(source.dataset_name or "").expanduser()
    if path.is_file():
        return {"train": [path]}
    if not source.dataset_name or not path.is_dir():
        return {}
    try:
        return saved_files(path) if is_saved_dataset(path) else _files_as_found(path, source.dataset_config)
    except (ValueError, KeyError, OSError):
        return {}


def splits_without(source: "AnySource", split: str) -> list[str]:
    """The splits of local data, if they lack one that `split` names; else none."""
    known = list(files_by_split(source))
    return known if any(name not in known for name in names_in_split(split)) else []


def saved_files(path: Path) -> dict[str, list[Path]]:
    """The files of each split of a directory that `save_to_disk` wrote, without the caches that lie beside them."""
    if not (path / SAVED_DATASET_DICT).is_file():
        return {"train": _listed_files(path)}
    names = json.loads((path / SAVED_DATASET_DICT).read_text(encoding="utf-8"))["splits"]
    return {name: _listed_files(path / name) for name in names}


def _listed_files(saved: Path) -> list[Path]:
    state = json.loads((saved / SAVED_DATASET).read_text(encoding="utf-8"))
    return [saved / file["filename"] for file in state["_data_files"]]


def _files_as_found(path: Path, config: str | None) -> dict[str, list[Path]]:
    """As `datasets` divides a directory: by its card, or by the names of the files."""
    from datasets import load_dataset_builder  # takes a second

    found = load_dataset_builder(str(path.resolve()), config).config.data_files
    root = path.resolve()
    return {str(split): [path / os.path.relpath(file, root) for file in files] for split, files in found.items()}
