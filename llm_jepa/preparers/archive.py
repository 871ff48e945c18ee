"""Reads files inside a zip archive, found by the end of their path in any folder, and inside a Debian package."""

import io
import shutil
import tarfile
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


def member_bytes(archive: Path, path: str) -> bytes:
    """A member's bytes. Raises as `open_member`."""
    with open_member(archive, path) as member:
        return member.read()


def read_member(archive: Path, path: str) -> str:
    """A member's text. Raises as `open_member`, and ValueError if it is not UTF-8."""
    content = member_bytes(archive, path)
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


AR_MAGIC, AR_HEADER_BYTES = b"!<arch>\n", 60


def deb_member(package: Path, path: str) -> bytes:
    """A file's bytes inside a Debian package: an `ar` archive whose `data.tar.*` holds the files.

    A member's header of 60 bytes has its name in the first 16 and its size in bytes 48 to 57; members begin at even
    offsets (deb(5), ar(5)).

    Raises:
        ValueError: It is no Debian package, is damaged, or has no such file.
    """
    content = package.read_bytes()
    offset = len(AR_MAGIC)
    try:
        while content.startswith(AR_MAGIC) and offset < len(content):
            header = content[offset : offset + AR_HEADER_BYTES]
            start, size = offset + AR_HEADER_BYTES, int(header[48:58])
            if header.startswith(b"data.tar"):
                with tarfile.open(fileobj=io.BytesIO(content[start : start + size])) as files:
                    member = files.extractfile(f"./{path}")
                    assert member is not None
                    return member.read()
            offset = start + size + size % 2
    except (ValueError, KeyError, tarfile.TarError, EOFError) as error:
        raise ValueError(f"`{package}` is not a Debian package with a file `{path}`: {error}.") from error
    raise ValueError(f"`{package}` is not a Debian package.")
