"""Reads a text file line by line, and names the place of bytes that are not UTF-8."""

from collections.abc import Iterator
from pathlib import Path

MAX_LINE_BYTES = 64 * 2**20
MAX_DOCUMENT_BYTES = 256 * 2**20
"""Largest line, and largest JSON document, that is held in memory."""
BYTE_ORDER_MARK = "\ufeff"


def read_lines(file: Path, max_line_bytes: int = -1) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends; a byte order mark at its beginning is dropped.

    Args:
        file: One line of it is in memory at a time.
        max_line_bytes: Longest line allowed; -1 for any length.

    Raises:
        ValueError: A line is not UTF-8 or too long; the message names the file and the line.
    """
    offset_bytes, number = 0, 0
    with file.open("rb") as lines:
        while line := lines.readline(max_line_bytes + 1 if max_line_bytes >= 0 else -1):
            number += 1
            if 0 <= max_line_bytes < len(line):
                raise ValueError(
                    f"`{file}`, line {number}: longer than {max_line_bytes} bytes. Split the file into lines."
                )
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"`{file}`, line {number}: byte {offset_bytes + error.start} of the file is not UTF-8 "
                    f"({error.reason}). Convert the file to UTF-8."
                ) from error
            offset_bytes += len(line)
            yield text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text
