"""Reads the answers of an index and the queries of a batch; checks that answers are told apart. Imports no torch."""

from collections.abc import Sequence
from pathlib import Path

from llm_jepa.files.text_lines import read_lines


def read_texts(file: Path, what: str) -> list[str]:
    """The lines of a text file.

    Args:
        what: What a line is, for messages: "answer" or "query".

    Raises:
        ValueError: The file is missing or has no lines, or a line is blank or not UTF-8.
    """
    if not file.is_file():
        raise ValueError(f"There is no file `{file}` (looked in {Path.cwd()}). Give a text file, one {what} a line.")
    texts = [line.rstrip("\r\n") for line in read_lines(file)]
    if not texts:
        raise ValueError(f"`{file}` is empty. Give a text file, one {what} a line.")
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise ValueError(f"`{file}`, line {number}: the {what} is empty. Leave the line out.")
    return texts


def read_answers(file: Path) -> list[str]:
    """The answers in a text file, one a line.

    Raises:
        ValueError: As by `read_texts` and `check_answers`.
    """
    answers = read_texts(file, "answer")
    check_answers(answers, f"`{file}`: ", first=1)
    return answers


def answers_of_column(name: str, column: str, split: str = "train") -> list[str]:
    """The different values of a column of a data set, in their order; of those that differ in white space the first.

    Args:
        name: A file, a directory or a Hub id.
        column: A column, a field in one, or a template, as `target_column`.

    Raises:
        ValueError: The data or the column are not there, or a value is no text or empty.
    """
    from llm_jepa.data.loading import load_split
    from llm_jepa.data.rows import column_names
    from llm_jepa.data.source import DataSource
    from llm_jepa.settings.view_fields import find_fields

    rows = load_split(DataSource(name), split)
    (field,) = find_fields([column], column_names(rows))
    found: dict[str, str] = {}
    for number, row in enumerate(rows):
        answer = field.text(row)
        if not answer.strip():
            raise ValueError(f"`{name}`, row {number}: `{column}` is empty. Leave the row out.")
        found.setdefault(answer.strip(), answer)
    return list(found.values())


def check_added(answers: Sequence[str], added: Sequence[str]) -> None:
    """Check that answers can be added to those of an index.

    Raises:
        ValueError: One is empty, given twice, or there already.
    """
    check_answers(added)
    known = stripped(answers)
    present = next((answer for answer in added if answer.strip() in known), None)
    if present is not None:
        raise ValueError(f"The index has the answer {present[:60]!r} already. Leave it out.")


def check_deleted(answers: Sequence[str], deleted: Sequence[str]) -> None:
    """Check that answers can be deleted from those of an index; white space around them does not count.

    Raises:
        ValueError: One is not there, or none is left.
    """
    known, gone = stripped(answers), stripped(deleted)
    missing = next((answer for answer in deleted if answer.strip() not in known), None)
    if missing is not None:
        raise ValueError(f"The index has no answer {missing[:60]!r}. Name answers that it has.")
    if known <= gone:
        raise ValueError("No answer would be left in the index. Delete its directory in place of its answers.")


def stripped(answers: Sequence[str]) -> set[str]:
    """The answers without white space around them."""
    return {answer.strip() for answer in answers}


def check_answers(answers: Sequence[str], where: str = "", first: int = 0) -> None:
    """Check that there are answers, none of them empty, and no two the same but for white space around them.

    Args:
        where: What precedes a message.
        first: The number of the first answer.

    Raises:
        ValueError: There are none, or one is empty or given twice.
    """
    if not answers:
        raise ValueError(f"{where}there are no answers. Give at least one.")
    seen: dict[str, int] = {}
    for number, answer in enumerate(answers, first):
        text = answer.strip()
        if not text:
            raise ValueError(f"{where}answer {number} is empty. Leave it out.")
        if text in seen:
            raise ValueError(f"{where}answers {seen[text]} and {number} are the same, {text[:60]!r}. Leave one out.")
        seen[text] = number
