"""The description of a data set: its published files, and the functions that make rows and splits of them."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from llm_jepa.preparers.records import Record
from llm_jepa.preparers.splits import Overlap, Row, Rows, Splits, by_source, convert, rows_of_split
from llm_jepa.preparers.upstream import Input, UpstreamFile

Inputs = Mapping[str, Input]

OWN_LICENCE = "unknown"
OWN_LICENCE_TEXT = "the licence of your files; correct this line and the header."
OWN_SOURCE = "your own files, named below."


@dataclass(frozen=True)
class DataSet:
    """A data set and how it is prepared.

    Attributes:
        name: The name of its script.
        title: The title of its card.
        description: A sentence or two for its card.
        source: Its authors and the place of publication.
        licence: The Hub's identifier of the licence.
        licence_text: The licence and its conditions in words.
        columns: Column of the output -> its meaning.
        make_splits: The inputs and the options -> the splits, in the order of precedence.
        files: Split (or another key for `make_splits`) -> the published file; empty if the user provides all files.
        overlap: The keys of a row that two splits must not share; `overlap_text` says it in words.
        keep_duplicates: Whether to keep a repeated row of one split. Repeated rows are always counted.
        languages: Language codes for the card.
        task_categories: The Hub's identifiers of tasks.
        add_arguments: Adds the script's own options to the command.
        find_own_inputs: The options -> the user's own files.
        write_more: Writes further files into the directory; `more_files` are patterns of their names.
        settings: Names of the options that determine the rows, for the card.
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


def describe_own_files(data_set: DataSet) -> DataSet:
    """Replace the published source, licence and languages, which do not apply to the user's own files."""
    return replace(data_set, source=OWN_SOURCE, licence=OWN_LICENCE, licence_text=OWN_LICENCE_TEXT, languages=())


def published_splits(
    to_row: Callable[[Record], Row],
    to_held_out_row: Callable[[Record], Row] | None = None,
    validation_share: float = 0.0,
) -> Callable[[Inputs, argparse.Namespace], Splits]:
    """Splits as published. The held-out splits take precedence, so that they stay complete.

    Args:
        to_row: Record -> row.
        to_held_out_row: The same for `test` and `validation`, if it differs.
        validation_share: Share of the sources of `train` that become `validation`, if none is published.
    """
    held_out_row = to_held_out_row or to_row

    def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
        def rows(name: str, converter: Callable[[Record], Row]) -> Rows:
            return convert(inputs[name].records(), converter)

        def cut(split: str, converter: Callable[[Record], Row]) -> Rows:
            return rows_of_split(rows("train", converter), shares, split, key=lambda row: row["source"])

        has_validation = "validation" in inputs
        shares = {} if has_validation else {"validation": validation_share}
        return {
            "test": lambda: rows("test", held_out_row),
            "validation": lambda: (rows if has_validation else cut)("validation", held_out_row),
            "train": lambda: cut("train", to_row),
        }

    return make_splits


def add_share_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--test_share` and `--validation_share`, for a data set published without splits."""
    for split, share in (("test", 0.1), ("validation", 0.05)):
        parser.add_argument(
            f"--{split}_share",
            type=float,
            default=share,
            help=f"share of all keys held out as {split} (default {share})",
        )


def split_at_random(rows: Callable[[], Rows], options: argparse.Namespace, key: Callable[[Row], object]) -> Splits:
    """Split rows by a hash of their keys. Each split with a share above 0 is one pass over the rows.

    Raises:
        ValueError: A share is below 0, or nothing is left to train on.
    """
    shares = {"test": options.test_share, "validation": options.validation_share}
    if min(shares.values()) < 0 or sum(shares.values()) >= 1:
        raise ValueError(
            f"test_share and validation_share are {shares}; each must be 0 or more, and their sum below 1."
        )

    def part(split: str) -> Callable[[], Rows]:
        return lambda: rows_of_split(rows(), shares, split, key)

    return {split: part(split) for split in ("test", "validation", "train") if shares.get(split) != 0}
