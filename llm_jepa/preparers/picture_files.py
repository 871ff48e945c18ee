"""Annotations of pictures in their published JSON, and where the pictures lie."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from llm_jepa.preparers.records import IncompleteRecordError, Record


def annotation_records(document: bytes, key: str, name: str) -> Iterator[Record]:
    """The records of the list below a key of a JSON object, which is held in memory as a whole.

    Raises:
        ValueError: It is no such document; the message begins with `name`.
    """
    try:
        content = json.loads(document)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} is not JSON: {error}.") from error
    items = content.get(key) if isinstance(content, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(f"{name} must hold an object with a list of objects `{key}`.")
    for number, item in enumerate(items, start=1):
        yield Record(item, f"{name}, `{key}` {number}", column_hint="" if number == 1 else None)


class RecordsById(dict[object, Record]):
    """Records by a column that is different in each.

    Raises:
        IncompleteRecordError: Another record names one that is not there.
    """

    def __missing__(self, key: object) -> Record:
        raise IncompleteRecordError(f"there is no record with the id {key!r}.")


def by_id(records: Iterator[Record], key: str) -> RecordsById:
    """The records by a column that is different in each."""
    return RecordsById({record.column(key): record for record in records})


def picture_path(path: Path, output_dir: Path) -> str:
    """The path of a picture relative to the data file.

    Raises:
        IncompleteRecordError: There is no such file.
    """
    if not path.is_file():
        raise IncompleteRecordError(f"there is no picture `{path}`.")
    return _relative(path, output_dir)


def frame_paths(directory: Path, output_dir: Path) -> list[str]:
    """The paths of a video's frames relative to the data file, in the order of their names.

    Raises:
        IncompleteRecordError: There is no such directory, or it is empty.
    """
    paths = sorted(path for path in directory.glob("*") if path.is_file())
    if not paths:
        raise IncompleteRecordError(f"there are no frames in `{directory}`.")
    return [_relative(path, output_dir) for path in paths]


def _relative(path: Path, output_dir: Path) -> str:
    return Path(os.path.relpath(path.resolve(), output_dir.resolve())).as_posix()
