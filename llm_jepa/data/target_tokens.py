"""Which tokens the training's targets are made of, the most frequent first."""

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from llm_jepa.data.rows import AnyDataset
from llm_jepa.data.views import IGNORED_LABEL

ROWS_AT_ONCE = 1000


def ranked_target_tokens(dataset: AnyDataset, stop_ids: Sequence[int]) -> list[int] | None:
    """The stop tokens, then the other tokens with a label by falling count, equal counts by id.

    Args:
        dataset: Prepared rows, with `labels`.

    Returns:
        None for a stream, which can be read once alone.
    """
    if not isinstance(dataset, Dataset):
        return None
    counts = np.zeros(0, dtype=np.int64)
    for rows in dataset.select_columns("labels").iter(ROWS_AT_ONCE):
        labels = np.concatenate([np.asarray(labels, dtype=np.int64) for labels in rows["labels"]])
        new = np.bincount(labels[labels != IGNORED_LABEL], minlength=len(counts))
        new[: len(counts)] += counts
        counts = new
    by_count = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist()
    return list(dict.fromkeys([*stop_ids, *by_count]))
