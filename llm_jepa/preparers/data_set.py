"""What a preparer is: a data set described, its published files, and how rows and splits are made of them."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from llm_jepa.preparers.records import Record
from llm_jepa.preparers.splits import Overlap, Row, Rows, Splits, by_source, convert, routed
from llm_jepa.preparers.upstream import Input, UpstreamFile

Inputs = Mapping[str, Input]

OWN_LICENCE = "unknown"
OWN_LICENCE_TEXT = "that of your files; correct this line and the header."
OWN_SOURCE = "files of your own, named below."


@dataclass(frozen=True)
class DataSet:
    """A data set and how it is prepared.

    Attributes:
        name: Of its script.
        title: For people.
        description: A sentence or two.
        source: Who published it and where.
        licence: The Hub's identifier.
        licence_text: The licence in words, and what it asks for.
        columns: Column of the output -> its meaning.
        make_splits: The inputs and the options -> the splits, in the order of precedence.
        files: Split (or another key for `make_splits`) -> the file; none if all files are the user's own.
        overlap: What two splits must not share; `overlap_text` is the same in words.
        keep_duplicates: Whether a repeated row of one split stays. Repeated rows are counted in any case.
        languages: Codes for the card.
        task_categories: The Hub's identifiers.
        add_arguments: Adds options of its own to the command.
        find_own_inputs: The options -> inputs of the user's own.
        write_more: Writes further files into the directory; `more_files` are patterns of their names.
        settings: Names of the options that decided what the rows are, for the card.
    """

    name: str
    title: str
    description: str
    source: str
    licence: str
    licence_text: str
    columns: Mapping[str, str]
    make_splits: Callable[[Inputs, argparse.Namespace], Splits]
    files: Mapping[str, UpstreamFile] = field(default_factory=dict)
    overlap: Overlap = by_source
    overlap_text: str = "a source"
    keep_duplicates: bool = False
    languages: Sequence[str] = ("en",)
    task_categories: Sequence[str] = ("text-generation",)
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None
    find_own_inputs: Callable[[argparse.Namespace], Inputs] | None = None
    write_more: Callable[[Path, Inputs, argparse.Namespace], None] | None = None
    more_files: Sequence[str] = ()
    settings: Sequence[str] = ()


def of_own_files(data_set: DataSet) -> DataSet:
    """The same made of files of the user's own: of what was published, source, licence and languages do not hold."""
    return replace(data_set, source=OWN_SOURCE, licence=OWN_LICENCE, licence_text=OWN_LICENCE_TEXT, languages=())


def published_splits(
    to_row: Callable[[Record], Row],
    to_held_out_row: Callable[[Record], Row] | None = None,
    validation_share: float = 0.0,
) -> Callable[[Inputs, argparse.Namespace], Splits]:
    """Splits as published: the held-out ones take precedence, and so stay whole.

    Args:
        to_row: Record -> row.
        to_held_out_row: The same for `test` and `validation`, where it differs.
        validation_share: Of the sources of `train`, how many are cut off as `validation`, where no file of that name
            is published.
    """
    held_out_row = to_held_out_row or to_row

    def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
        def rows(name: str, converter: Callable[[Record], Row]) -> Rows:
            return convert(inputs[name].records(), converter)

        def cut(split: str, converter: Callable[[Record], Row]) -> Rows:
            return routed(rows("train", converter), shares, split, key=lambda row: row["source"])

        has_validation = "validation" in inputs
        shares = {} if has_validation else {"validation": validation_share}
        return {
            "test": lambda: rows("test", held_out_row),
            "validation": lambda: (rows if has_validation else cut)("validation", held_out_row),
            "train": lambda: cut("train", to_row),
        }

    return make_splits


def add_share_arguments(parser: argparse.ArgumentParser) -> None:
    """`--test_share` and `--validation_share`, for a set that comes without splits."""
    for split, share in (("test", 0.1), ("validation", 0.05)):
        parser.add_argument(
            f"--{split}_share", type=float, default=share, help=f"of all keys, held out as {split} (default {share})"
        )


def split_at_random(rows: Callable[[], Rows], options: argparse.Namespace, key: Callable[[Row], object]) -> Splits:
    """Splits of rows that come as one, by a hash of their keys. Each split that has a share is a pass over the rows.

    Raises:
        ValueError: The shares are below 0, or leave nothing to train on.
    """
    shares = {"test": options.test_share, "validation": options.validation_share}
    if min(shares.values()) < 0 or sum(shares.values()) >= 1:
        raise ValueError(f"test_share and validation_share are {shares}; give shares of 0 or more, below 1 together.")

    def part(split: str) -> Callable[[], Rows]:
        return lambda: routed(rows(), shares, split, key)

    return {split: part(split) for split in ("test", "validation", "train") if shares.get(split) != 0}
