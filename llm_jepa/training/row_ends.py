"""Warns of rows that do not teach the model where an answer ends."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from llm_jepa.data.rows import AnyDataset
from llm_jepa.data.views import IGNORED_LABEL

logger = logging.getLogger(__name__)


def warn_of_ends_that_do_not_stop(
    dataset: AnyDataset, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int], name: str
) -> AnyDataset:
    """Log how many prepared rows end with another token than a stop token, and return them; a stream logs the first.

    White space after the end, such as ChatML's newline, does not count.

    Args:
        stop_ids: Every stop token of the model that will be saved.
        name: The data set's name in messages.
    """
    ends = _Ends(tokenizer)
    if not isinstance(dataset, Dataset):
        return dataset.map(_FirstEnd(ends, stop_ids, name))
    counts: Counter[int] = Counter()
    for labels in _labels(dataset):
        counts.update(ends.of_lists(labels))
    wrong = Counter({token: count for token, count in counts.items() if token not in stop_ids})
    if wrong:
        those = f"{wrong.total()} of {len(dataset)} rows of the {name} data"
        logger.warning("%s", _message(tokenizer, wrong.most_common(1)[0][0], stop_ids, those))
    return dataset


class _Ends:
    """Finds the last label of a row that is not white space."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self._is_blank = {IGNORED_LABEL: True}

    def of_lists(self, labels: pa.ListArray) -> list[int]:
        """The end of each row; of rows without one, nothing.

        Example: of the labels [-100, 7, 2, 9] and [-100, -100], with 9 as a newline, the ends are [2].
        """
        offsets, values = labels.offsets.to_numpy(), labels.values.to_numpy(zero_copy_only=False)
        first, last = offsets[:-1], offsets[1:] - 1
        open_rows = np.flatnonzero(last >= first)
        ends: list[int] = []
        while open_rows.size:
            tokens = values[last[open_rows]]
            blank = np.isin(tokens, [token for token in np.unique(tokens).tolist() if self._blank(token)])
            ends += tokens[~blank].tolist()
            open_rows = open_rows[blank]
            last = last - 1
            open_rows = open_rows[last[open_rows] >= first[open_rows]]
        return ends

    def _blank(self, token: int) -> bool:
        if token not in self._is_blank:
            self._is_blank[token] = not str(self.tokenizer.decode([token])).strip()
        return self._is_blank[token]


class _FirstEnd:
    """Logs the first row of a stream that ends with no stop token."""

    def __init__(self, ends: _Ends, stop_ids: Sequence[int], name: str):
        self.ends, self.stop_ids, self.name = ends, stop_ids, name
        self.is_told = False

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        for end in [] if self.is_told else self.ends.of_lists(pa.array([row["labels"]])):
            if end not in self.stop_ids:
                self.is_told = True
                those = f"Row {row['row_index']} and maybe others of the {self.name} data"
                logger.warning("%s", _message(self.ends.tokenizer, end, self.stop_ids, those))
        return {}


def _labels(dataset: Dataset) -> Iterator[pa.ListArray]:
    for batch in dataset.select_columns(["labels"]).with_format("arrow").iter(batch_size=10_000):
        yield pa.chunked_array(batch["labels"]).combine_chunks().cast(pa.list_(pa.int64()))  # of any kind of list


def _message(tokenizer: PreTrainedTokenizerBase, end: int, stop_ids: Sequence[int], those: str) -> str:
    shown = str(tokenizer.decode([end]))
    stops = ", ".join(repr(tokenizer.decode([token])) for token in stop_ids) or "it has none"
    if end in tokenizer.added_tokens_decoder:
        remedy = f"Set `eos_token: {shown}`."
    else:
        eos = tokenizer.eos_token or "a stop token"
        remedy = f"Use a `chat_template_path` that ends an answer with {eos}, or let tokenised labels end with it."
    return (
        f"{those} end with {shown!r}, which is no stop token of the model ({stops}): it will not learn where an "
        f"answer ends, and generation goes on to its limit. {remedy}"
    )
