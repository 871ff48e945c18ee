"""Writes splits that do not overlap: a hash of its key assigns a row to a split; duplicates and overlaps are left out.

Rows are streamed. Only digests of about 10 bytes stay in memory: one for each row of the split being written, and for
each row of earlier splits one for each key that other splits must not share. Equal texts have equal digests, so every
overlap is found. A row is left out by mistake if two different texts have the same digest; `DigestSet` gives the
probability.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from llm_jepa.preparers.digests import DIGEST_BITS, DigestSet, digest
from llm_jepa.preparers.records import IncompleteRecordError, Record

Row: TypeAlias = dict[str, Any]
SPLIT_NAMES = ("train", "validation", "test")
MAX_SHOWN_PLACES = 3


@dataclass(frozen=True)
class LeftOut:
    """Replaces a row that is left out.

    Attributes:
        reason: The reason, in words that follow a number of rows: "3 without a message".
        place: File and line of a mistake in the data, which ends the run unless `--skip_incomplete` is given. None for
            a row that is left out by a rule.
        is_before_split: Whether it was left out before rows were assigned to splits. It is counted once.
    """

    reason: str
    place: str | None = None
    is_before_split: bool = False


Rows: TypeAlias = Iterable[Row | LeftOut]
Splits: TypeAlias = Mapping[str, Callable[[], Rows]]
"""Split -> a function that reads its rows from the beginning. An earlier split takes precedence: see `SplitWriter`."""

Overlap: TypeAlias = Callable[[Row], Sequence[Any]]
"""Row -> the keys that two splits must not share."""


def by_source(row: Row) -> list[Any]:
    """Two splits share no source. For data sets in which many sources have the same target."""
    return [row["source"]]


def by_either_view(row: Row) -> list[Any]:
    """Two splits share no source and no target."""
    return [("source", row["source"]), ("target", row["target"])]


def by_any_text(row: Row) -> list[Any]:
    """Two splits share no text, as source or as target. For views of one kind."""
    return [row["source"], row["target"]]


def convert(records: Iterable[Record], to_row: Callable[[Record], Row]) -> Iterator[Row | LeftOut]:
    """Convert records to rows. An incomplete record becomes a `LeftOut` with its place."""
    for record in records:
        try:
            yield to_row(record)
        except IncompleteRecordError as error:
            yield LeftOut(f"incomplete: {error}", record.place)


def rows_of_split(
    rows: Rows, shares: Mapping[str, float], split: str, key: Callable[[Row], Any]
) -> Iterator[Row | LeftOut]:
    """The rows of one split. A hash of a row's key decides, so rows with equal keys are in one split, in any order.

    Args:
        rows: All rows.
        shares: Split -> its share of the keys, in [0, 1); the rest is `train`.
        split: The split to return. A `LeftOut` is returned with `train` alone, so it is counted once.
        key: Row -> its key.
    """
    for row in rows:
        if isinstance(row, LeftOut):
            if split == "train":
                yield replace(row, is_before_split=any(shares.values()))
        elif split_of(key(row), shares) == split:
            yield row


def split_of(key: Any, shares: Mapping[str, float]) -> str:
    """The split that a hash of a key decides; `shares` as in `rows_of_split`."""
    position = digest(["split", key]) / 2**DIGEST_BITS
    for split, share in shares.items():
        if position < share:
            return split
        position -= share
    return "train"


@dataclass
class SplitCounts:
    """Counts of the rows of one split.

    Attributes:
        num_received: All rows, with those left out. Each is written or counted by another attribute.
        num_written: Rows in the file.
        num_duplicates: Rows that equal an earlier one of their split. They are written if duplicates are kept.
        overlaps: Other split -> number of rows left out because they share a key with it.
        left_out: Reason -> number of rows left out by a rule.
        incomplete: Places of the first incomplete rows.
        num_incomplete: Number of incomplete rows.
        num_left_out_before_split: How many of `left_out` and `num_incomplete` were left out before the split.
    """

    num_received: int = 0
    num_written: int = 0
    num_duplicates: int = 0
    overlaps: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    incomplete: list[str] = field(default_factory=list)
    num_incomplete: int = 0
    num_left_out_before_split: int = 0


class SplitWriter:
    """Writes one split after another, and leaves out rows that share a key with a split written before."""

    def __init__(self, directory: Path, overlap: Overlap, keep_duplicates: bool, skip_incomplete: bool) -> None:
        self.directory = directory
        self.overlap = overlap
        self.keep_duplicates = keep_duplicates
        self.skip_incomplete = skip_incomplete
        self._keys: dict[str, DigestSet] = {}

    def write(self, split: str, rows: Rows, is_last: bool) -> SplitCounts:
        """Write `SPLIT.jsonl`, unless no row is left.

        Args:
            split: Its name.
            rows: Its rows.
            is_last: Whether no other split follows, so its keys need not be stored.

        Raises:
            ValueError: A row is incomplete, and `skip_incomplete` is False.
        """
        counts = SplitCounts()
        path = self.directory / f"{split}.jsonl"
        keys = DigestSet()
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for row in self._kept(rows, counts, None if is_last else keys):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                counts.num_written += 1
        self._keys[split] = keys
        if counts.num_written == 0:
            path.unlink()
        return counts

    def _kept(self, rows: Rows, counts: SplitCounts, own_keys: DigestSet | None) -> Iterator[Row]:
        own_rows = DigestSet()
        for row in rows:
            counts.num_received += 1
            if isinstance(row, LeftOut):
                self._count(row, counts)
                continue
            keys = [digest(key) for key in self.overlap(row)]
            other = next((name for name, there in self._keys.items() if any(key in there for key in keys)), None)
            if other is not None:
                counts.overlaps[other] += 1
                continue
            is_new = own_rows.add(digest(row))
            counts.num_duplicates += not is_new
            if not is_new and not self.keep_duplicates:
                continue
            if own_keys is not None:
                for key in keys:
                    own_keys.add(key)
            yield row

    def _count(self, row: LeftOut, counts: SplitCounts) -> None:
        counts.num_left_out_before_split += row.is_before_split
        if row.place is None:
            counts.left_out[row.reason] += 1
            return
        if not self.skip_incomplete:
            raise ValueError(f"{row.place}: {row.reason} `--skip_incomplete` leaves out such rows and counts them.")
        counts.num_incomplete += 1
        counts.incomplete += [row.place] * (len(counts.incomplete) < MAX_SHOWN_PLACES)
