"""Prepares your own translation pairs: two text files, aligned line by line, or one TSV file.

    python data/translation.py --output_dir DIR --files text.en text.fr
    python data/translation.py --output_dir DIR --tsv_file pairs.tsv

The TSV file has two columns without a header, source and target. Lines that are empty on both sides are left out.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from llm_jepa.preparers.data_set import (
    OWN_LICENCE,
    OWN_LICENCE_TEXT,
    OWN_SOURCE,
    DataSet,
    Inputs,
    add_share_arguments,
    split_at_random,
)
from llm_jepa.preparers.program import run
from llm_jepa.preparers.records import Record, read_aligned_lines, read_records
from llm_jepa.preparers.splits import LeftOut, Row, Rows, Splits, by_either_view, convert
from llm_jepa.preparers.upstream import own_input

COLUMNS = ("source", "target")


def to_row(record: Record) -> Row:
    return {name: record.text(name) for name in COLUMNS}


def pairs(inputs: Inputs) -> Iterator[Row | LeftOut]:
    if "tsv" in inputs:
        records = read_records(inputs["tsv"].path, COLUMNS)
    else:
        records = read_aligned_lines(inputs["source"].path, inputs["target"].path)
    for record in records:
        if any(record.values[name].strip() for name in COLUMNS):
            yield from convert([record], to_row)
        else:
            yield LeftOut("empty on both sides")


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    def rows() -> Rows:
        return pairs(inputs)

    return split_at_random(rows, options, key=lambda row: row["source"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    files = parser.add_mutually_exclusive_group(required=True)
    files.add_argument(
        "--files", type=Path, nargs=2, metavar=("SOURCE", "TARGET"), help="text files with one text on each line"
    )
    files.add_argument("--tsv_file", type=Path, help="source, tab, target in each line; no header")
    add_share_arguments(parser)


def find_own_inputs(options: argparse.Namespace) -> Inputs:
    if options.tsv_file is not None:
        return {"tsv": own_input(options.tsv_file)}
    return dict(zip(COLUMNS, map(own_input, options.files), strict=True))


DATA_SET = DataSet(
    name="translation",
    title="Translation pairs",
    description="Texts and their translations.",
    source=OWN_SOURCE,
    licence=OWN_LICENCE,
    licence_text=OWN_LICENCE_TEXT,
    columns={"source": "a text", "target": "its translation"},
    make_splits=make_splits,
    overlap=by_either_view,
    overlap_text="a source or a target",
    languages=(),
    task_categories=("translation",),
    add_arguments=add_arguments,
    find_own_inputs=find_own_inputs,
    settings=("test_share", "validation_share"),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
