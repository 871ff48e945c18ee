"""Splits of rows that are drawn at random: as many as asked for, no two alike, and no key in two splits.

A hash of its key decides a row's split, whatever the seed: rows drawn for training by one seed share no key with rows
drawn for testing by another. Each split has a random generator of its own, so the test rows do not depend on the
number of training rows.
"""

import argparse
import random
from collections.abc import Callable, Iterator
from functools import partial

from llm_jepa.preparers.digests import DigestSet, digest
from llm_jepa.preparers.splits import Overlap, Row, Splits, split_of

SHARES = {"test": 1 / 16, "validation": 1 / 16}
"""Split -> its share of the keys; the rest is `train`."""
MAX_DRAWS = 5_000
"""Draws without a new row after which there is none to be expected."""
SETTINGS = ("num_train", "num_validation", "num_test", "seed")


def add_draw_arguments(parser: argparse.ArgumentParser, num_train: int) -> None:
    """Add the number of rows of each split and the seed; `num_train` is a default."""
    for name, default in (("num_train", num_train), ("num_validation", 500), ("num_test", 1000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")


def drawn_splits(draw: Callable[[random.Random], Row], overlap: Overlap, options: argparse.Namespace) -> Splits:
    """The splits of rows that `draw` draws; `overlap` gives a row's key, the only one.

    Raises:
        ValueError: A number of rows is out of range; or, when they are drawn, there are not as many different rows.
    """
    sizes = {"test": options.num_test, "validation": options.num_validation, "train": options.num_train}
    if sizes["train"] < 1 or min(sizes.values()) < 0 or options.seed < 0:
        raise ValueError(
            f"num_train {options.num_train} must be at least 1; num_validation {options.num_validation}, num_test "
            f"{options.num_test} and seed {options.seed} must be 0 or more."
        )
    return {
        split: partial(_drawn_rows, draw, overlap, split, size, options.seed) for split, size in sizes.items() if size
    }


def _drawn_rows(
    draw: Callable[[random.Random], Row], overlap: Overlap, split: str, num_rows: int, seed: int
) -> Iterator[Row]:
    rng, drawn, num_drawn, num_misses = random.Random(f"{seed} {split}"), DigestSet(), 0, 0
    while num_drawn < num_rows:
        row = draw(rng)
        (key,) = overlap(row)
        if split_of(key, SHARES) == split and drawn.add(digest(row)):
            num_drawn, num_misses = num_drawn + 1, 0
            yield row
            continue
        num_misses += 1
        if num_misses == MAX_DRAWS:
            raise ValueError(
                f"num_{split} is {num_rows}, but after {num_drawn} rows {MAX_DRAWS} draws gave no other one. Ask for "
                "fewer rows, or for larger puzzles."
            )
