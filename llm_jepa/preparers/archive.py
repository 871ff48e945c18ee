"""Reads files inside a zip archive. They are found by the end of their path, in any folder."""

import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def open_member(archive: Path, path: str) -> Iterator[IO[bytes]]:
    """Open the only member that is `path` or ends in `/path`. Members below `__MACOSX` are ignored.

    Raises:
        ValueError: There is no such member or more than one, or the file is not a zip archive or is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            found = [name for name in opened.namelist() if f"/{name}".endswith(f"/{path}") and "__MACOSX" not in name]
            if len(found) != 1:
                raise ValueError(f"`{archive}` has {len(found)} files `{path}`; it must have exactly one.")
            with opened.open(found[0]) as member:
                yield member
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"`{archive}` is not a zip archive, or is damaged: {error}.") from error


def read_member(archive: Path, path: str) -> str:
    """A member's text. Raises as `open_member`, and ValueError if it is not UTF-8."""
    with open_member(archive, path) as member:
        content = member.read()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"`{path}` in `{archive}`, line {line}: not UTF-8 ({error.reason}).") from error


def extract_member(archive: Path, path: str, destination: Path) -> None:
    """Write a member to `destination` in pieces. Raises as `open_member`."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with open_member(archive, path) as member, destination.open("wb") as file:
        shutil.copyfileobj(member, file)
