"""What is found while rows are tokenised: text that training sees otherwise than evaluation does.

It is kept with the rows in columns, so that runs that take their rows from the cache say it too.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl.data_utils import common_prefix_length

from llm_jepa.data.prompts import Prompt, prompt_ids
from llm_jepa.data.rows import AnyDataset, column_names
from llm_jepa.data.spans import template_kwargs_of

FINDING_COLUMNS = ("lost_prompt_end", "is_target_learned", "unwritten_role")
KNOWN_ROLES = ("system", "user", "assistant", "tool")
TRL_LOGGER, TRL_WARNING = "trl.trainer.sft_trainer", "The tokenized prompt is not a prefix"

logger = logging.getLogger(__name__)


def find_in_row(
    tokenizer: PreTrainedTokenizerBase,
    row: dict[str, Any],
    input_ids: Sequence[int],
    learned_ids: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The columns `FINDING_COLUMNS` of a row with `prompt`, `completion` and `target`.

    `lost_prompt_end` is the end of the prompt that the conversation has other tokens for; "" if there is none. Tokens
    merge over it, or the template writes a prompt otherwise than the same turns in a conversation. Example: the prompt
    "It is " ends with the token " ", and "It is forty" goes on with " forty".

    `is_target_learned` is whether the labels hold the text of the target.

    `unwritten_role` is a role of a turn that the chat template leaves out, since it does not know the role; else "".

    Args:
        input_ids: The tokens of prompt and completion.
        learned_ids: The labels among them; None for those after the prompt.
    """
    given_ids = prompt_ids(tokenizer, row["prompt"], template_kwargs_of(row))
    num_common = common_prefix_length(given_ids, list(input_ids))
    learned_ids = input_ids[num_common:] if learned_ids is None else learned_ids
    return {
        "lost_prompt_end": _decoded(tokenizer, given_ids[num_common:]),
        "is_target_learned": _holds(tokenizer, _decoded(tokenizer, learned_ids), row["target"].strip()),
        "unwritten_role": _unwritten_role(tokenizer, row["prompt"], input_ids),
    }


def _unwritten_role(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, input_ids: Sequence[int]) -> str:
    """The first role whose turn the conversation lacks; what a template makes of known roles is its own affair."""
    turns = [] if isinstance(prompt, str) else prompt
    texts = {turn["role"]: turn["content"] for turn in turns if turn["role"] not in KNOWN_ROLES}
    for role, text in texts.items():
        if isinstance(text, str) and not _holds(tokenizer, _decoded(tokenizer, input_ids), text.strip()):
            return role
    return ""


def _holds(tokenizer: PreTrainedTokenizerBase, learned: str, target: str) -> bool:
    """Whether a decoded text holds the target, or what its tokens stand for: a tokenizer may normalise a text."""
    return target in learned or (
        _decoded(tokenizer, tokenizer(target, add_special_tokens=False)["input_ids"]).strip() in learned
    )


def _decoded(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    text = tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


def report_findings(dataset: AnyDataset, name: str) -> AnyDataset:
    """Log what was found in the rows of a data set, and return it; a stream logs the first row of each kind.

    Args:
        name: The data set's name in messages.
    """
    if not {*FINDING_COLUMNS} <= {*column_names(dataset)}:
        return dataset
    if not isinstance(dataset, Dataset):
        return dataset.map(_FirstFindings(name))
    report_rows(_found_rows(dataset), name, len(dataset))
    return dataset


def report_rows(rows: Iterable[dict[str, Any]], name: str, num_rows: int) -> None:
    """Log what `find_in_row` found in some rows, which have their `row_index` too, out of `num_rows`."""
    first: dict[str, dict[str, Any]] = {}
    counts: Counter[str] = Counter()
    for row in rows:
        for kind in _kinds(row):
            first.setdefault(kind, row)
            counts[kind] += 1
    for kind, count in counts.items():
        logger.warning("%s", _message(kind, first[kind], f"{count} of {num_rows} rows of the {name} data"))


def _found_rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """The rows of a data set in which something was found."""
    columns = dataset.select_columns([*FINDING_COLUMNS, "row_index"])
    for batch in columns.with_format("arrow").iter(batch_size=10_000):
        is_found = pc.or_(pc.not_equal(batch["lost_prompt_end"], ""), pc.not_equal(batch["unwritten_role"], ""))
        is_found = pc.or_(is_found, pc.invert(batch["is_target_learned"]))
        yield from batch.filter(is_found).to_pylist()


class _FirstFindings:
    """Logs the first row of a stream with a finding, whose rows cannot be counted in advance."""

    def __init__(self, name: str):
        self.name = name
        self.told: set[str] = set()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        for kind in _kinds(row) - self.told:
            self.told.add(kind)
            logger.warning("%s", _message(kind, row, f"some rows of the {self.name} data"))
        return {}


def _kinds(row: dict[str, Any]) -> set[str]:
    kinds = {kind for kind in ("lost_prompt_end", "unwritten_role") if row[kind]}
    return kinds if row["is_target_learned"] else kinds | {"target_not_learned"}


def _message(kind: str, row: dict[str, Any], those: str) -> str:
    """What was found in some rows, of which one is given, and the remedy."""
    if kind == "lost_prompt_end":
        return (
            f"In {those}, the prompt alone ends otherwise than in the conversation (row {row['row_index']}: nothing "
            f"is learned after {row['lost_prompt_end'][-40:]!r}), so evaluation and use go on from tokens that "
            "training has not seen. Tokens merge over the prompt's end, or the chat template writes a prompt in "
            "another way. Let the completion begin with the space that the prompt ends with, or use another "
            "`chat_template_path`."
        )
    if kind == "unwritten_role":
        return (
            f"In {those}, the chat template leaves out a turn of the role {row['unwritten_role']!r} (first in row "
            f"{row['row_index']}). Give it one of {', '.join(KNOWN_ROLES)}, or use another `chat_template_path`."
        )
    return (
        f"In {those}, the labels do not hold the target's text (first in row {row['row_index']}): the chat template "
        "leaves out or rewrites a part of it, such as its reasoning, or writes its beginning into the prompt. The "
        "text is not learned as it is, so no answer will equal it. Use a `chat_template_path` that writes answers as "
        "they are, or write the answers as the template does."
    )


@contextmanager
def replaces_trl_warning() -> Iterator[None]:
    """Silence TRL's warning of a lost end of the prompt, which comes in the first run alone and counts no rows."""

    def is_other(record: logging.LogRecord) -> bool:
        return TRL_WARNING not in record.getMessage()

    trl_logger = logging.getLogger(TRL_LOGGER)
    trl_logger.addFilter(is_other)
    try:
        yield
    finally:
        trl_logger.removeFilter(is_other)
