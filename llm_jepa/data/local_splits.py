"""The splits of local data and the files of each, known without reading a row. Imports no torch."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_jepa.data.source import (
    DELIMITERS,
    LOADERS,
    SAVED_DATASET,
    SAVED_DATASET_DICT,
    DataSource,
    data_suffix,
    is_saved_dataset,
    local_files,
)

if TYPE_CHECKING:
    from datasets import DatasetBuilder

    from llm_jepa.data.source import AnySource

SHOWN_FILES = 5
logger = logging.getLogger(__name__)


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


def check_every_file_is_read(path: Path, found: "DatasetBuilder") -> None:
    """Check that a directory without a card has files of one format; log those of it that no split takes.

    `datasets` reads the commonest format, and where a file is named as a split, such files alone.

    Raises:
        ValueError: Files of another format would be left out, or be read as the first.
    """
    card = path / "README.md"
    if card.is_file() and "data_files" in card.read_text(encoding="utf-8", errors="replace"):
        return
    taken = {Path(str(file)).resolve() for files in found.config.data_files.values() for file in files}
    files = local_files(path)
    formats = {_format_of(file): file for file in (*files, *sorted(taken))}
    if len(formats) > 1:
        shown = ", ".join(f"`{file.name}`" for file in formats.values())
        raise ValueError(
            f"The files of one directory must have one format; {shown} have several. Move the others away, or name "
            "one file."
        )
    unread = [file.relative_to(path).as_posix() for file in files if file.resolve() not in taken]
    if unread:
        logger.warning(
            "%s: `%s` is not read, since others are named as splits.", path, "`, `".join(unread[:SHOWN_FILES])
        )


def _format_of(file: Path) -> tuple[str, str | None]:
    suffix = data_suffix(file)
    return LOADERS[suffix], DELIMITERS.get(suffix)


def _files_as_found(path: Path, config: str | None) -> dict[str, list[Path]]:
    """As `datasets` divides a directory: by its card, or by the names of the files."""
    from datasets import load_dataset_builder  # takes a second

    found = load_dataset_builder(str(path.resolve()), config).config.data_files
    root = path.resolve()
    return {str(split): [path / os.path.relpath(file, root) for file in files] for split, files in found.items()}
