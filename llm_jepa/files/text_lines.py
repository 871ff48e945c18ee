"""Reads a text file line by line, packed or not, and names the place of bytes that are not UTF-8."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

MAX_LINE_BYTES = 64 * 2**20
MAX_DOCUMENT_BYTES = 256 * 2**20
"""Largest line, and largest JSON document, that is held in memory."""
BYTE_ORDER_MARK = "\ufeff"
GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
"""The first bytes of a packed file."""


class UnreadableLineError(ValueError):
    """A line that cannot be read; the message names the file and the line."""


def is_packed(file: str | Path) -> bool:
    """Whether a local file is packed by gzip or zstd."""
    with Path(file).open("rb") as opened:
        return opened.read(4).startswith((GZIP_MAGIC, ZSTD_MAGIC))


def open_unpacked(file: str | Path) -> BinaryIO:
    """Open a file for reading; one that gzip or zstd has packed is unpacked as it is read."""
    opened = Path(file).open("rb")  # noqa: SIM115
    magic = opened.read(4)
    opened.seek(0)
    if magic.startswith(GZIP_MAGIC):
        return cast(BinaryIO, gzip.GzipFile(fileobj=opened))
    if magic == ZSTD_MAGIC:
        import pyarrow  # takes a while

        return cast(BinaryIO, io.BufferedReader(pyarrow.CompressedInputStream(opened, "zstd")))
    return opened


@contextmanager
def unpacking_explained(name: str) -> Iterator[None]:
    """Name the packed file that is cut off or damaged.

    Raises:
        UnreadableLineError: In place of the error of gzip or zstd.
    """
    try:
        yield
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnreadableLineError(f"`{name}` cannot be unpacked: {error}. Pack or fetch it again.") from error


def read_lines(file: Path, max_line_bytes: int = -1) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends; a byte order mark at its beginning is dropped.

    Args:
        file: One line of it is in memory at a time.
        max_line_bytes: Longest line allowed; -1 for any length.

    Raises:
        UnreadableLineError: A line is not UTF-8 or too long, or the file cannot be unpacked.
    """
    with open_unpacked(file) as lines:
        yield from decoded_lines(lines, str(file), max_line_bytes)


def decoded_lines(lines: BinaryIO, name: str, max_line_bytes: int = -1) -> Iterator[str]:
    """The lines of an open file of this name. Otherwise as `read_lines`."""
    limit = max_line_bytes + 1 if max_line_bytes >= 0 else -1
    offset_bytes, number = 0, 0
    with unpacking_explained(name):
        while line := lines.readline(limit):
            number += 1
            if 0 <= max_line_bytes < len(line):
                raise UnreadableLineError(
                    f"`{name}`, line {number}: longer than {max_line_bytes} bytes. Split the file into lines."
                )
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UnreadableLineError(
                    f"`{name}`, line {number}: byte {offset_bytes + error.start} of the file is not UTF-8 "
                    f"({error.reason}). Convert the file to UTF-8."
                ) from error
            offset_bytes += len(line)
            yield text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text
