"""Prepares groups of paraphrases as chains of pairs: text i of a group and text i + 1.

    python data/paraphrase.py --output_dir data/paraphrase [--input_dir DIR]                  # TaPaCo, English
    python data/paraphrase.py --output_dir DIR --file groups.csv --group_column id --text_column text

Your own groups are a JSON Lines, CSV, TSV or Parquet file with one column for the group's name and one for the text.
Whole groups are held out. A temporary database keeps the latest text of each group; SQLite writes it to disk
(`SQLITE_TMPDIR`, else `/var/tmp`) once it exceeds its cache. A row without a group is incomplete.
"""

import argparse
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from llm_jepa.preparers.data_set import DataSet, Inputs, add_share_arguments, split_at_random
from llm_jepa.preparers.program import run
from llm_jepa.preparers.records import IncompleteRecordError, Record, checked_text
from llm_jepa.preparers.splits import LeftOut, Row, Splits, by_any_text
from llm_jepa.preparers.upstream import Input, UpstreamFile, own_input

TAPACO_ROWS = 158_053
CACHE_KIB = 262_144
FIND = "SELECT text FROM latest WHERE group_name = ?"


def pairs(groups: Input, group_column: str, text_column: str) -> Iterator[Row | LeftOut]:
    """The pairs (first, second), (second, third), ... of each group. A text equal to the one before makes no pair."""
    with closing(sqlite3.connect("")) as latest:  # a temporary database
        latest.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        latest.execute("CREATE TABLE latest (group_name TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID")
        for record in groups.records():
            try:
                group, text = group_of(record, group_column), record.text(text_column)
            except IncompleteRecordError as error:
                yield LeftOut(f"incomplete: {error}", record.place)
                continue
            (previous,) = latest.execute(FIND, (group,)).fetchone() or (None,)
            latest.execute("REPLACE INTO latest VALUES (?, ?)", (group, text))
            if previous == text:
                yield LeftOut("that repeat the text before them")
            elif previous is not None:
                yield {"source": previous, "target": text, "group": group}


def group_of(record: Record, column: str) -> str:
    """The name of a record's group, a text or a number.

    Raises:
        IncompleteRecordError: The value is null, NaN, blank, or neither a text nor a number.
    """
    value = record.column(column)
    if not isinstance(value, str | int | float) or value != value:
        raise IncompleteRecordError(f"the column {column!r} holds {value!r:.60}, which is not a text or a number.")
    return checked_text(str(value), column)


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    return split_at_random(
        lambda: pairs(inputs["groups"], options.group_column, options.text_column),
        options,
        key=lambda row: row["group"],
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", type=Path, help="your own groups, instead of TaPaCo")
    for name, default, meaning in (
        ("group", "paraphrase_set_id", "names the group"),
        ("text", "paraphrase", "holds the text"),
    ):
        parser.add_argument(
            f"--{name}_column", default=default, help=f"the column that {meaning} (default {default}, TaPaCo's)"
        )
    add_share_arguments(parser)


def find_own_inputs(options: argparse.Namespace) -> Inputs:
    hint = "Name the columns of the file by `--group_column` and `--text_column`."
    return {} if options.file is None else {"groups": own_input(options.file, hint)}


DATA_SET = DataSet(
    name="paraphrase",
    title="Paraphrases",
    description="Texts of the same meaning. Each group is a chain of pairs.",
    source="Scherrer 2020, TaPaCo: A Corpus of Sentential Paraphrases for 73 Languages (LREC 2020), its English part; "
    "on the Hub as community-datasets/tapaco",
    licence="cc-by-2.0",
    licence_text="CC BY 2.0: name the source.",
    columns={"source": "text i of a group", "target": "text i + 1", "group": "the group's name"},
    files={
        "groups": UpstreamFile(
            "train-00000-of-00001.parquet",
            "hf://datasets/community-datasets/tapaco/en/train-00000-of-00001.parquet",
            num_rows=TAPACO_ROWS,
        )
    },
    make_splits=make_splits,
    overlap=by_any_text,
    overlap_text="a text",
    add_arguments=add_arguments,
    find_own_inputs=find_own_inputs,
    settings=("group_column", "text_column", "test_share", "validation_share"),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
