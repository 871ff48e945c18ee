"""Gives each row the target view of another row: `shuffle_pairs`, the control of the pair objective.

The conversation, its labels and the source view stay the row's own, so that the same tokens are trained on.
"""

import random
from functools import cached_property
from typing import Any

from datasets import Dataset, IterableDataset
from datasets.fingerprint import Hasher

from llm_jepa.data.cache_key import PREPARATION_VERSION
from llm_jepa.settings.checks import NO_PARTNERS_IN_STREAMS

PARTNER_COLUMN = "partner_index"
"""The `row_index` of the row whose target view a row has."""


def shuffled_partners(num_rows: int, seed: int) -> list[int]:
    """A partner for each row: every row is the partner of one row, and none its own.

    All such permutations are equally likely: one is drawn until no row is its own partner, e = 2.7 times on average.
    What a row's own target is plays no part. A partner chosen for its different target would tell the row's target:
    with two classes it always has the other one.

    Example: 4 rows, drawn 2 1 3 0 (row 1 is its own partner), then 1 0 3 2: 0 -> 1, 1 -> 0, 2 -> 3, 3 -> 2.

    Raises:
        ValueError: There are fewer than two rows.
    """
    if num_rows < 2:
        raise ValueError(
            f"`shuffle_pairs` gives each row the target of another row; there is {num_rows} row. Give more rows, or "
            "leave it out."
        )
    generator = random.Random(seed)
    while True:
        partners = generator.sample(range(num_rows), num_rows)
        if all(partner != row for row, partner in enumerate(partners)):
            return partners


def with_shuffled_partners(dataset: Dataset | IterableDataset, seed: int, num_proc: int | None = None) -> Dataset:
    """Exchange the target views of prepared rows among them, and note the `row_index` of each one's partner.

    A partner may have an equal target, as chance has it.

    Raises:
        ValueError: The data set is a stream, or has one row.
    """
    if isinstance(dataset, IterableDataset):
        raise ValueError(NO_PARTNERS_IN_STREAMS)
    # The cache's key is given, since `datasets` would hash all rows that the function holds.
    key = Hasher.hash((dataset._fingerprint, seed, PREPARATION_VERSION, PARTNER_COLUMN))
    give = _PartnerTargets(dataset, seed)
    return dataset.map(give, batched=True, with_indices=True, num_proc=num_proc, new_fingerprint=key)


class _PartnerTargets:
    """The target views of the partners of a batch of rows. Nothing is drawn while the cache has the result."""

    def __init__(self, dataset: Dataset, seed: int):
        self.targets = dataset.select_columns(["target_ids", "target_start", "row_index"])
        self.seed = seed

    @cached_property
    def partners(self) -> list[int]:
        return shuffled_partners(len(self.targets), self.seed)

    def __call__(self, batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        partners = self.targets[[self.partners[index] for index in indices]]
        return {
            "target_ids": partners["target_ids"],
            "target_start": partners["target_start"],
            PARTNER_COLUMN: partners["row_index"],
        }
