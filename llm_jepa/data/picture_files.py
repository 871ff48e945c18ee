"""The picture files that the rows of local data name, and a record of them."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, Image, List

from llm_jepa.data.loading import load_split

if TYPE_CHECKING:
    from llm_jepa.data.source import AnySource


def picture_directory(dataset_name: str | None) -> Path | None:
    """The directory of local data, which relative paths of pictures are relative to; None for data on the Hub."""
    path = Path(dataset_name or "").expanduser()
    if not dataset_name or not path.exists():
        return None
    return path if path.is_dir() else path.parent


def with_undecoded_pictures(rows: Dataset, column: str) -> Dataset:
    """Rows whose column of pictures gives them as they are stored."""
    feature = rows.features[column]
    if isinstance(feature, Image):
        return rows.cast_column(column, Image(decode=False))
    elif isinstance(feature, List) and isinstance(feature.feature, Image):
        return rows.cast_column(column, List(Image(decode=False)))
    return rows


def record_pictures(source: "AnySource", splits: Iterable[str], column: str) -> dict[str, Any] | None:
    """Number and bytes of the picture files that the rows name, how many are missing, and a SHA-256 of the whole list.

    The list has names and sizes, sorted. No file is opened, so a change that keeps the size is not seen. None if the
    rows name no file: pictures are within the data files, or data on the Hub.

    Raises:
        ValueError: The rows cannot be loaded.
    """
    directory = picture_directory(source.dataset_name)
    if directory is None:
        return None
    names: set[str] = set()
    for split in splits:
        rows = load_split(source, split)
        if isinstance(rows, Dataset) and column in rows.column_names:
            names.update(_names(with_undecoded_pictures(rows, column)[column], directory))
    if not names:
        return None
    sizes = {name: _size_bytes(directory / name) for name in sorted(names)}
    listed = "".join(f"{name}\0{size}\n" for name, size in sizes.items())
    digest = hashlib.sha256(listed.encode(errors="surrogateescape")).hexdigest()
    found = [size for size in sizes.values() if size is not None]
    return {"pictures": len(sizes), "bytes": sum(found), "missing": len(sizes) - len(found), "sha256": digest}


def _names(values: Iterable[Any], directory: Path) -> Iterator[str]:
    """Paths as the rows have them; within the directory, relative to it, so that a moved copy is the same."""
    absolute = directory.resolve()
    for value in values:
        for one in value if isinstance(value, list) else [value]:
            path = one.get("path") if isinstance(one, Mapping) and not one.get("bytes") else one
            if isinstance(path, str) and path:
                yield str(Path(path).relative_to(absolute)) if Path(path).is_relative_to(absolute) else path


def _size_bytes(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
