"""Rows of a data set -> rows that the collator reads, checked before anything is computed."""

import difflib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from llm_jepa.options.vision import VisionOptions
from llm_jepa.vision.picture_check import check_pictures, with_undecoded_pictures
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
    """Rows with the columns `image`, `question`, `answer`, `candidates` (those that the recipe has) and `row_index`.

    Pictures stay as they are stored, and are read by the collator.

    Args:
        name: `train`, `eval` or `held-out`, for errors.
        directory: What relative paths of pictures are relative to.

    Raises:
        ValueError: A column is missing, a text is no text, empty or too long, or a picture is missing or cannot be
            read.
    """
    columns = row_columns(options)
    _check_columns(rows.column_names, columns, name)
    if "image" in columns:
        rows = with_undecoded_pictures(rows, columns["image"])
        check_pictures(rows[columns["image"]], directory)
    tokenise = {"question": processor.question_ids, "answer": processor.answer_ids}
    for role in tokenise.keys() & columns.keys():
        texts = rows[columns[role]][:]
        _check_texts(texts, columns[role], name)
        option = f"max_{role}_tokens"
        _check_lengths(texts, tokenise[role], option, getattr(options, option), name)
    if "candidates" in columns:
        _check_candidates(rows[columns["candidates"]], rows[columns["answer"]], columns["candidates"], name)
    rows = rows.select_columns(list(columns.values()))
    rows = rows.rename_columns({column: role for role, column in columns.items() if column != role})
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
    first = rows[0]["answer"].strip()
    if all(answer.strip() == first for answer in rows["answer"]):
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


def _check_lengths(texts: Sequence[str], tokenise: Tokenise, option: str, limit: int, name: str) -> None:
    too_long, first = 0, ""
    for start in range(0, len(texts), TOKENISED_TEXTS):
        for place, ids in enumerate(tokenise(texts[start : start + TOKENISED_TEXTS]), start):
            if len(ids) > limit:
                too_long += 1
                first = first or f"row {place} with {len(ids)} tokens"
    if too_long:
        raise ValueError(
            f"{too_long:,} of {len(texts):,} rows of the {name} data have more tokens than `{option}: {limit}`, the "
            f"first: {first}. Raise it, or leave these rows out."
        )


def _check_candidates(values: Sequence[Any], answers: Sequence[str], column: str, name: str) -> None:
    for row, (candidates, answer) in enumerate(zip(values, answers, strict=True)):
        if not isinstance(candidates, list) or answer not in candidates or len(set(candidates)) < len(candidates):
            raise ValueError(
                f"Row {row} of the {name} data: `{column}` is {str(candidates)[:80]!r}; it must be a list of "
                f"different texts, the answer {answer[:60]!r} among them."
            )
