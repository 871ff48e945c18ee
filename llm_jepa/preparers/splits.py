"""Splits of which no two share a view: rows routed by a hash of their key, duplicates and overlaps left out, counted.

Rows are streamed. What stays in memory are digests, some 10 bytes each: one of every row of the split being written,
and of a row that is held out one more for each thing that other splits must not share with it. Equal texts have equal
digests, so that no overlap is missed; that different ones have, and a row is left out for nothing, is as improbable
as `DigestSet` says.
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
SHOWN_PLACES = 3


@dataclass(frozen=True)
class LeftOut:
    """What stands in the place of a row that is none.

    Attributes:
        reason: Why, in words that fit after a number of rows.
        place: File and line of a mistake in the data, which ends the run unless it is to be skipped; None for what
            is left out as a rule.
        is_of_no_split: Whether it was left out of rows that came for several splits together. It is counted once.
    """

    reason: str
    place: str | None = None
    is_of_no_split: bool = False


Rows: TypeAlias = Iterable[Row | LeftOut]
Splits: TypeAlias = Mapping[str, Callable[[], Rows]]
"""Split -> what begins to read its rows anew. The order is that of precedence: see `write_split`."""

Overlap: TypeAlias = Callable[[Row], Sequence[Any]]
"""What of a row must not come in two splits."""


def by_source(row: Row) -> list[Any]:
    """Splits share no source. For sets in which many sources have one target."""
    return [row["source"]]


def by_either_view(row: Row) -> list[Any]:
    """Splits share no source and no target."""
    return [("source", row["source"]), ("target", row["target"])]


def by_any_text(row: Row) -> list[Any]:
    """No text of a split is in another one, as source or as target: for views of one kind."""
    return [row["source"], row["target"]]


def convert(records: Iterable[Record], to_row: Callable[[Record], Row]) -> Iterator[Row | LeftOut]:
    """The rows of records; an incomplete one is a mistake with its place."""
    for record in records:
        try:
            yield to_row(record)
        except IncompleteRecordError as error:
            yield LeftOut(f"incomplete: {error}", record.place)


def routed(rows: Rows, shares: Mapping[str, float], split: str, key: Callable[[Row], Any]) -> Iterator[Row | LeftOut]:
    """The rows whose key falls to a split, a hash of the key deciding: equal keys fall together, in any order of rows.

    Args:
        rows: All rows.
        shares: Split -> its share of the keys, in [0, 1); the rest is `train`.
        split: Which rows are wanted. What is left out comes with `train` alone, and so once.
        key: Of a row.
    """
    for row in rows:
        if isinstance(row, LeftOut):
            if split == "train":
                yield replace(row, is_of_no_split=any(shares.values()))
        elif _split_of(key(row), shares) == split:
            yield row


def _split_of(key: Any, shares: Mapping[str, float]) -> str:
    position = digest(["split", key]) / 2**DIGEST_BITS
    for split, share in shares.items():
        if position < share:
            return split
        position -= share
    return "train"


@dataclass
class SplitCounts:
    """What became of the rows of one split.

    Attributes:
        came: Rows that came, with those left out. Each is written, or in one of the other numbers.
        written: Rows that are there now.
        duplicates: Rows that equal an earlier one of their split; written too where they stay.
        overlaps: Other split -> rows left out since it has a text of theirs.
        left_out: Reason -> how many were no rows, as a rule.
        incomplete: Places of the first incomplete ones.
        num_incomplete: How many there were.
        of_no_split: Of those left out as a rule or as incomplete, how many came for several splits together.
    """

    came: int = 0
    written: int = 0
    duplicates: int = 0
    overlaps: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    incomplete: list[str] = field(default_factory=list)
    num_incomplete: int = 0
    of_no_split: int = 0


class SplitWriter:
    """Writes one split after the other; a row that shares something with a split written before is left out."""

    def __init__(self, directory: Path, overlap: Overlap, keep_duplicates: bool, skip_incomplete: bool) -> None:
        self.directory = directory
        self.overlap = overlap
        self.keep_duplicates = keep_duplicates
        self.skip_incomplete = skip_incomplete
        self._keys: dict[str, DigestSet] = {}

    def write(self, split: str, rows: Rows, is_last: bool) -> SplitCounts:
        """Write `SPLIT.jsonl`, unless nothing is left of it.

        Args:
            split: Its name.
            rows: What came for it.
            is_last: No other split follows, for which its keys would have to be remembered.

        Raises:
            ValueError: A row is incomplete, and such rows are not to be skipped.
        """
        counts = SplitCounts()
        path = self.directory / f"{split}.jsonl"
        keys = DigestSet()
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for row in self._kept(rows, counts, None if is_last else keys):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                counts.written += 1
        self._keys[split] = keys
        if counts.written == 0:
            path.unlink()
        return counts

    def _kept(self, rows: Rows, counts: SplitCounts, own_keys: DigestSet | None) -> Iterator[Row]:
        own_rows = DigestSet()
        for row in rows:
            counts.came += 1
            if isinstance(row, LeftOut):
                self._count(row, counts)
                continue
            keys = [digest(key) for key in self.overlap(row)]
            other = next((name for name, there in self._keys.items() if any(key in there for key in keys)), None)
            if other is not None:
                counts.overlaps[other] += 1
                continue
            is_new = own_rows.add(digest(row))
            counts.duplicates += not is_new
            if not is_new and not self.keep_duplicates:
                continue
            if own_keys is not None:
                for key in keys:
                    own_keys.add(key)
            yield row

    def _count(self, row: LeftOut, counts: SplitCounts) -> None:
        counts.of_no_split += row.is_of_no_split
        if row.place is None:
            counts.left_out[row.reason] += 1
            return
        if not self.skip_incomplete:
            raise ValueError(f"{row.place}: {row.reason} `--skip_incomplete` leaves such rows out and counts them.")
        counts.num_incomplete += 1
        counts.incomplete += [row.place] * (len(counts.incomplete) < SHOWN_PLACES)
