"""Prepares Spider: questions, SQL queries and their SQLite databases.

    python data/spider.py --output_dir data/spider [--schema] [--input_dir DIR]

Reads `spider_data.zip` without unpacking it, and writes the databases to `OUTPUT_DIR/database/ID/ID.sqlite`. The
column `database` holds that path, relative to the directory in which the script ran. Give a relative `--output_dir`
and evaluate from the same directory, or set `database_path: DIR/database/{db_id}/{db_id}.sqlite` in the recipe.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_jepa.preparers.archive import extract_member, read_member
from llm_jepa.preparers.data_set import DataSet, Inputs
from llm_jepa.preparers.program import run
from llm_jepa.preparers.records import IncompleteRecordError, Record, checked_records, json_records
from llm_jepa.preparers.splits import LeftOut, Row, Rows, Splits, convert, rows_of_split
from llm_jepa.preparers.upstream import UpstreamFile

# The file of the Spider site, in the repository of the LLM-JEPA reference code.
PUBLISHED_AT = (
    "https://media.githubusercontent.com/media/galilai-group/llm-jepa/6d7d0d1f296441beff39a95c801db7f683e3b353/"
    "spider_data.zip"
)
TRAIN_FILES = {"train_spider.json": 7000, "train_others.json": 1659}
TEST_FILES = {"dev.json": 1034}
VALIDATION_SHARE = 0.05


def records(archive: Path, files: Mapping[str, int], unchecked: bool) -> Iterator[Record]:
    """The records of JSON files in the archive, with their published numbers checked."""
    for name, num_rows in files.items():
        found = json_records(read_member(archive, name), f"`{name}`")
        yield from checked_records(found, f"`{name}`", None if unchecked else num_rows)


def database_id(record: Record) -> str:
    """The name of a record's database, which is also the name of its directory."""
    db_id = record.text("db_id")
    if not re.fullmatch(r"\w+", db_id):
        raise IncompleteRecordError(f"the column 'db_id' holds {db_id!r:.60}, which is not the name of a database.")
    return db_id


def schema_text(tables: Record) -> str:
    """One line for each table, with columns, types and primary keys; then the foreign keys."""
    names: Sequence[str] = tables.column("table_names_original")
    columns: Sequence[tuple[int, str]] = tables.column("column_names_original")
    types: Sequence[str] = tables.column("column_types")
    primary = {key for keys in tables.column("primary_keys") for key in (keys if isinstance(keys, list) else [keys])}
    lines = []
    for number, name in enumerate(names):
        described = [
            f"{column} {types[i]}{' primary key' if i in primary else ''}"
            for i, (table, column) in enumerate(columns)
            if table == number
        ]
        lines.append(f"{name}({', '.join(described)})")

    def full_name(column: int) -> str:
        return f"{names[columns[column][0]]}.{columns[column][1]}"

    lines += [f"{full_name(one)} = {full_name(other)}" for one, other in tables.column("foreign_keys")]
    return "\n".join(lines)


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    archive = inputs["archive"].path
    schemas: dict[str, str] = {}
    if options.schema:
        tables = json_records(read_member(archive, "tables.json"), "`tables.json`")
        schemas = {record.text("db_id"): schema_text(record) for record in tables}

    def to_row(record: Record) -> Row:
        question, db_id = record.text("question"), database_id(record)
        if options.schema and db_id not in schemas:
            raise IncompleteRecordError(f"`tables.json` does not describe the database {db_id!r}.")
        database = options.output_dir / "database" / db_id / f"{db_id}.sqlite"
        return {
            "source": f"{schemas[db_id]}\n\n{question}" if options.schema else question,
            "target": record.text("query"),
            "db_id": db_id,
            "database": database.as_posix(),
        }

    def rows(files: Mapping[str, int]) -> Rows:
        return convert(records(archive, files, options.unchecked), to_row)

    def train(split: str) -> Rows:
        return rows_of_split(rows(TRAIN_FILES), {"validation": VALIDATION_SHARE}, split, key=lambda row: row["db_id"])

    return {
        "test": lambda: rows(TEST_FILES),
        "validation": lambda: train("validation"),
        "train": lambda: train("train"),
    }


def by_question(row: Row) -> list[Any]:
    return [(row["db_id"], row["source"])]


def write_databases(directory: Path, inputs: Inputs, options: argparse.Namespace) -> None:
    """Write the databases of all rows."""
    archive = inputs["archive"].path
    asked = convert(
        records(archive, TRAIN_FILES | TEST_FILES, options.unchecked), lambda record: {"db_id": database_id(record)}
    )
    for db_id in sorted({row["db_id"] for row in asked if not isinstance(row, LeftOut)}):
        path = f"database/{db_id}/{db_id}.sqlite"
        extract_member(archive, path, directory / path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--schema", action="store_true", help="put the tables of the database before each question")


DATA_SET = DataSet(
    name="spider",
    title="Spider",
    description="Questions in English about databases, and the SQL queries that answer them. `test` is the published "
    "dev split; no database is in two splits.",
    source="Yu et al. 2018, Spider: A Large-Scale Human-Labeled Dataset for Complex and Cross-Domain Semantic Parsing "
    "and Text-to-SQL Task (arXiv 1809.08887); yale-lily.github.io/spider",
    licence="cc-by-sa-4.0",
    licence_text="CC BY-SA 4.0: name the source, and share what you make of it under the same licence.",
    columns={
        "source": "the question; with `--schema` the tables of its database before it",
        "target": "the SQL query",
        "db_id": "name of the database",
        "database": "path of its SQLite file, relative to the directory in which the preparer ran",
    },
    files={
        "archive": UpstreamFile(
            "spider_data.zip",
            PUBLISHED_AT,
            "sha256:00636695dabed6b5f4b8328a16b13e069a2f16591d5efcce57660669c85b121b",
        )
    },
    make_splits=make_splits,
    overlap=by_question,
    overlap_text="a question to one database",
    task_categories=("text-generation",),
    add_arguments=add_arguments,
    write_more=write_databases,
    more_files=("database/*/*.sqlite",),
    settings=("schema",),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
