"""Gives each row the target view of another row: `shuffle_pairs`, the control of the pair objective.

The conversation, its labels and the source view stay the row's own, so that the same tokens are trained on.
"""

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any

from datasets import Dataset, IterableDataset
from datasets.fingerprint import Hasher

from llm_jepa.data.cache_key import PREPARATION_VERSION
from llm_jepa.settings.checks import NO_PARTNERS_IN_STREAMS

PARTNER_COLUMN = "partner_index"
"""The `row_index` of the row whose target view a row has."""


def shuffled_partners(keys: Sequence[Hashable], seed: int) -> list[int]:
    """A partner for each row: every row is the partner of one row, and none its own.

    Rows are ordered at random, those of one key side by side, and each row's partner is the one `distance` places
    further, around the end. With n rows and m of the most frequent key, every distance from m to n - m meets another
    key; one of them is drawn. If m > n / 2 there is none, and at the distance m only 2 m - n rows, the fewest
    possible, have a partner with their own key.

    Example: the keys a a b b in the order 1 0 2 3 with the distance 2: 1 -> 2, 0 -> 3, 2 -> 1, 3 -> 0.

    Args:
        keys: Equal for rows whose partners would be no change.

    Raises:
        ValueError: There are fewer than two rows.
    """
    num_rows = len(keys)
    if num_rows < 2:
        raise ValueError(
            f"`shuffle_pairs` gives each row the target of another row; there is {num_rows} row. Give more rows, or "
            "leave it out."
        )
    generator = random.Random(seed)
    rows_of_key: defaultdict[Hashable, list[int]] = defaultdict(list)
    for row in generator.sample(range(num_rows), num_rows):
        rows_of_key[keys[row]].append(row)  # keys come in the order of their first row, which is random
    order = [row for rows in rows_of_key.values() for row in rows]
    most = max(map(len, rows_of_key.values()))
    if most == num_rows:
        distance = generator.randint(1, num_rows - 1)
    else:
        distance = generator.randint(most, max(most, num_rows - most))
    partners = [0] * num_rows
    for place, row in enumerate(order):
        partners[row] = order[(place + distance) % num_rows]
    return partners


def with_shuffled_partners(dataset: Dataset | IterableDataset, seed: int, num_proc: int | None = None) -> Dataset:
    """Exchange the target views of prepared rows among them, and note the `row_index` of each one's partner.

    Rows with the same target are not partners of each other where that is possible.

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
        keys = [hash(tuple(ids)) for batch in self.targets.iter(1000) for ids in batch["target_ids"]]
        return shuffled_partners(keys, self.seed)

    def __call__(self, batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        partners = self.targets[[self.partners[index] for index in indices]]
        return {
            "target_ids": partners["target_ids"],
            "target_start": partners["target_start"],
            PARTNER_COLUMN: partners["row_index"],
        }
