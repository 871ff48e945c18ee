"""Reads the rows of a JSON file with Python's parser: a text stays the text that is written, whatever it looks like.

A file has one object on each line, or is a document: a list of objects or texts, or objects over several lines.
"""

import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from llm_jepa.files.text_lines import (
    BYTE_ORDER_MARK,
    MAX_LINE_BYTES,
    UnreadableLineError,
    open_unpacked,
    unpacking_explained,
)

Row = dict[str, Any]

NOT_SPACE = re.compile(r"\S")
SURROGATE = "\\ud"
"""How the escape of a surrogate begins."""


def read_rows(lines: Iterator[str], name: str) -> Iterator[tuple[int, Row]]:
    """The rows of a file, each with the number of characters that it took. Blank lines are no rows.

    Args:
        lines: The lines of the file. A document is held in memory as a whole.
        name: The file's, for messages.

    Raises:
        UnreadableLineError: A line or the document is not JSON, or a row is not an object.
    """
    first = list(_blank_and_next(lines))
    if first and begins_document(first[-1], name):
        text = "".join(chain(first, lines))
        yield from ((len(text), row) for row in _rows_of_document(text, name))
        return
    for number, line in enumerate(chain(first, lines), start=1):
        if line.strip():
            yield len(line), _row_of_line(line, f"`{name}`, line {number}")


def _blank_and_next(lines: Iterator[str]) -> Iterator[str]:
    """The blank lines at the beginning and the one after them."""
    for line in lines:
        yield line
        if line.strip():
            return


def is_document(file: Path) -> bool:
    """Whether a JSON file is one document, by its first line."""
    with open_unpacked(file) as lines, unpacking_explained(str(file)):
        while (line := lines.readline(MAX_LINE_BYTES)) and not line.strip():
            pass
    return begins_document(line.decode("utf-8", errors="replace").removeprefix(BYTE_ORDER_MARK), file.name)


def begins_document(line: str, name: str) -> bool:
    """Whether the first line of a file of this name is the beginning of a document, or a list of rows.

    In `.json` all but an object is. In `.jsonl` `{`, `[{"q": 1},`, `[{"q": 1}]` and `["a"]` are; `{"q": 1}` is a row,
    and `[1]` and `{"q": oops}` are mistakes.
    """
    is_json = ".json" in Path(name).suffixes
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        is_cut = line.lstrip().startswith("[") and error.pos >= len(line.rstrip())
        return line.strip() != "" and (is_json or is_cut or line.strip() == "{")
    except (ValueError, RecursionError):
        return False
    if is_json:
        return not isinstance(value, dict)
    return isinstance(value, list) and any(all(isinstance(item, kind) for item in value) for kind in (dict, str))


def _row_of_line(line: str, place: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        where = "the line is cut off" if error.pos >= len(line.rstrip()) else f"column {error.pos + 1}"
        raise UnreadableLineError(f"{place}: not JSON: {error.msg} ({where}).") from error
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, thousands of brackets
        raise UnreadableLineError(f"{place}: cannot be read: {error}.") from error
    return _checked_row(row, line, place)


def _rows_of_document(text: str, name: str) -> Iterator[Row]:
    """The rows of lists of objects or texts, or of objects one after another. A text is the row's `text`."""
    decoder, position = json.JSONDecoder(), _next_sign(text, 0)
    while position < len(text):
        line = text.count("\n", 0, position) + 1
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise UnreadableLineError(f"`{name}`, line {error.lineno}: not JSON: {error.msg}.") from error
        except (ValueError, RecursionError) as error:
            raise UnreadableLineError(f"`{name}`, line {line}: cannot be read: {error}.") from error
        for row in value if isinstance(value, list) else [value]:
            row = {"text": row} if isinstance(row, str) and isinstance(value, list) else row
            yield _checked_row(row, text[position:end], f"`{name}`, line {line}")
        position = _next_sign(text, end)


def _next_sign(text: str, position: int) -> int:
    """The position of the next sign that is no white space."""
    found = NOT_SPACE.search(text, position)
    return len(text) if found is None else found.start()


def _checked_row(row: Any, text: str, place: str) -> Row:
    if not isinstance(row, dict):
        raise UnreadableLineError(f"{place}: a row must be an object, not {json.dumps(row)[:40]}.")
    if SURROGATE in text.lower():
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise UnreadableLineError(
                f"{place}: {half} is half a character (a surrogate without its pair)."
            ) from error
    return row
