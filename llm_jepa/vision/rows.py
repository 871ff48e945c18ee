"""Rows of a data set -> rows that the collator reads, checked before anything is computed."""

import difflib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from llm_jepa.data.picture_files import with_undecoded_pictures
from llm_jepa.options.vision import VisionOptions
from llm_jepa.vision.picture_check import check_pictures
from llm_jepa.vision.processor import PictureQuestionProcessor

KIND_COLUMN = "kind"
"""The column, of data sets that have it, by which scores are told apart."""
Tokenise = Callable[[Sequence[str]], list[list[int]]]
TOKENISED_TEXTS = 1000
"""As many texts are tokenised at once."""


def prepare_rows(
    rows: Dataset,
    options: VisionOptions,
    processor: PictureQuestionProcessor,
    name: str,
    directory: Path | None = None,
) -> Dataset:
    """The rows of `arranged_rows`, whose pictures can be read.

    Args:
        directory: What relative paths of pictures are relative to.

    Raises:
        ValueError: `arranged_rows` refuses the rows, or a picture is missing or cannot be read.
    """
    rows = arranged_rows(rows, options, processor, name)
    if "image" in rows.column_names:
        check_pictures(rows["image"], directory)
    return rows


def arranged_rows(rows: Dataset, options: VisionOptions, processor: PictureQuestionProcessor, name: str) -> Dataset:
    """Rows with the columns `image`, `question`, `answer`, `candidates` (those that the recipe has) and `row_index`.

    Pictures stay as they are stored, and are read by the collator. Answers and candidates lose the white space around
    them.

    Args:
        name: `train`, `eval` or `held-out`, for errors.

    Raises:
        ValueError: A column is missing, a text is no text, empty or too long, or candidates are wrong.
    """
    columns = row_columns(options)
    _check_columns(rows.column_names, columns, name)
    if "image" in columns:
        rows = with_undecoded_pictures(rows, columns["image"])
    tokenise = {"question": processor.question_ids, "answer": processor.answer_ids}
    for role in tokenise.keys() & columns.keys():
        texts = rows[columns[role]][:]
        _check_texts(texts, columns[role], name)
        option = f"max_{role}_tokens"
        limit = getattr(options, option)
        _check_lengths([[text] for text in texts], tokenise[role], columns[role], option, limit, name)
    if "candidates" in columns:
        candidates = rows[columns["candidates"]][:]
        column, limit = columns["candidates"], options.max_answer_tokens
        _check_candidates(candidates, rows[columns["answer"]], column, name)
        _check_lengths(candidates, processor.answer_ids, column, "max_answer_tokens", limit, name)
    rows = rows.select_columns(list(columns.values()))
    rows = rows.rename_columns({column: role for role, column in columns.items() if column != role})
    answers = [answer.strip() for answer in rows["answer"]]
    rows = rows.remove_columns("answer").add_column("answer", answers)
    if "candidates" in columns:
        candidates = [[text.strip() for text in texts] for texts in rows["candidates"]]
        rows = rows.remove_columns("candidates").add_column("candidates", candidates)
    return rows.add_column("row_index", list(range(len(rows))))


def row_columns(options: VisionOptions) -> dict[str, str]:
    """What a row has -> the column that holds it."""
    columns = {
        "image": options.image_column if options.inputs != "question" else None,
        "question": options.question_column,
        "answer": options.answer_column,
        "candidates": options.candidates_column,
    }
    return {role: column for role, column in columns.items() if column is not None}


def answer_key(answer: str) -> int:
    """A signed 64-bit digest of an answer, equal for answers that differ in the white space around them alone."""
    return int.from_bytes(hashlib.blake2b(answer.strip().encode(), digest_size=8).digest(), "little", signed=True)


def refuse_one_answer(rows: Dataset) -> None:
    """Refuse training data whose answers are all equal, from which no loss can tell anything.

    Raises:
        ValueError: They are.
    """
    first = rows[0]["answer"]
    if all(answer == first for answer in rows["answer"]):
        raise ValueError(
            f"All {len(rows)} answers of the training data are {first[:60]!r}: there is nothing to tell apart. Check "
            "`answer_column`."
        )


def _check_columns(there: Sequence[str], columns: dict[str, str], name: str) -> None:
    for role, column in columns.items():
        if column not in there:
            near = difflib.get_close_matches(column, there, n=1)
            meant = f" Did you mean `{near[0]}`?" if near else ""
            nothing = " Set it to null to ask nothing." if role == "question" else ""
            raise ValueError(
                f"`{role}_column: {column}`: the {name} data have no such column. They "
                f"have: {', '.join(there)}.{meant}{nothing}"
            )


def _check_texts(values: Sequence[Any], column: str, name: str) -> None:
    for row, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            what = "is empty" if isinstance(value, str) else f"is {type(value).__name__}, no text"
            raise ValueError(f"Row {row} of the {name} data: `{column}` {what}. Mend the row, or leave it out.")


def _check_lengths(
    texts_of_rows: Sequence[Sequence[str]], tokenise: Tokenise, column: str, option: str, limit: int, name: str
) -> None:
    """Refuse rows with a text of more tokens; a text that comes again is tokenised once."""
    texts = list(dict.fromkeys(text for row in texts_of_rows for text in row))
    num_tokens: dict[str, int] = {}
    for start in range(0, len(texts), TOKENISED_TEXTS):
        some = texts[start : start + TOKENISED_TEXTS]
        num_tokens |= {text: len(ids) for text, ids in zip(some, tokenise(some), strict=True)}
    longest = [max(num_tokens[text] for text in row) for row in texts_of_rows]
    too_long = [row for row, length in enumerate(longest) if length > limit]
    if too_long:
        raise ValueError(
            f"{len(too_long):,} of {len(longest):,} rows of the {name} data have more tokens in `{column}` than "
            f"`{option}: {limit}`, the first: row {too_long[0]} with {longest[too_long[0]]}. Raise it, or leave these "
            "rows out."
        )


def _check_candidates(values: Sequence[Any], answers: Sequence[str], column: str, name: str) -> None:
    for row, (candidates, answer) in enumerate(zip(values, answers, strict=True)):
        is_list = isinstance(candidates, list) and all(isinstance(text, str) for text in candidates)
        texts = {text.strip() for text in candidates} if is_list else set()
        if answer.strip() not in texts or "" in texts or len(texts) < len(candidates):
            raise ValueError(
                f"Row {row} of the {name} data: `{column}` is {str(candidates)[:80]!r}; it must be a list of "
                f"different texts, none empty, the answer {answer[:60]!r} among them."
            )
