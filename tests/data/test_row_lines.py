"""A row that cannot be used is named by the line of its file."""

import csv
import json
from pathlib import Path

import pytest
from datasets import Dataset

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.loading import load_split
from llm_jepa.data.row_lines import line_of_row, row_errors_located
from llm_jepa.data.rows import RowError, to_rows
from llm_jepa.data.source import DataSource
from llm_jepa.data.view_pairs import expand_rows

FILES = {
    "rows.jsonl": '\n{"n": "0"}\n{"n": "1"}\n\n{"n": "2"}\n{"n": "3"}\n',
    "rows.csv": 'n,text\n0,a\n1,"b\nc"\n\n2,d\n3,e\n',
    "rows.tsv": 'n\ttext\n0\ta\n1\t"b\n\n2\td\n3\te"\n',
    "rows.txt": "0\n\n1\n2\n \n3\n",
}
LINES = {"rows.jsonl": [2, 3, 5, 6], "rows.csv": [2, 3, 6, 7], "rows.tsv": [2, 3, 5, 6], "rows.txt": [1, 3, 4, 6]}
"""The line of each row. Line 4 of the CSV is the end of a field, and line 5 is blank, as line 4 of the TSV."""


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("split", "rows"),
    [("train", [0, 1, 2, 3]), ("train[50%:]", [2, 3]), ("train[1:3]", [1, 2]), ("train[3:]+train[:1]", [3, 0])],
)
def test_the_line_of_a_row_is_that_of_the_file(name, split, rows):
    """Also of a slice, and of a row after a blank line or a line break in a field."""
    dataset = load_split(DataSource(name), split)
    assert [line_of_row(Path(name), split, i, dataset) for i in range(len(dataset))] == [LINES[name][i] for i in rows]


def test_an_error_of_a_row_names_file_and_line():
    dataset = load_split(DataSource("rows.jsonl"), "train[2:]")
    error = RowError(1, "the target is empty.")
    error.data_name = "eval"
    loaded = {"train": ("train", None), "eval": ("train[2:]", dataset)}
    message = r"^`rows.jsonl`, line 6: the target is empty\.$"
    located = row_errors_located(DataSource("rows.jsonl"), loaded, ColumnMapping())
    with pytest.raises(ValueError, match=message), located:
        raise error


def test_a_row_after_a_very_long_field_is_named_by_its_line():
    """Longer than the 131,072 characters that Python's `csv` reads unless it is told."""
    csv.field_size_limit(131_072)  # another test may have raised it
    Path("long.csv").write_text(f"q,a\n{'x' * 200_000},y\nz,\n")
    dataset, mapping = load_split(DataSource("long.csv"), "train"), ColumnMapping("q", "a")
    with (
        pytest.raises(ValueError, match=r"^`long.csv`, line 3: column 'a' is null or empty"),
        row_errors_located(DataSource("long.csv"), {"": ("train", dataset)}, mapping),
    ):
        to_rows(dataset, mapping, has_chat_template=True)


@pytest.mark.parametrize("sampled", [None, [3]], ids=["loaded rows", "expanded rows, a sample"])
def test_an_expanded_row_is_named_by_the_line_it_comes_from(sampled):
    """Line 4 has the views a, b and c, two pairs; its second pair is row 3 of the pairs, and row 1 of the slice."""
    views = [("0", "0", "0"), ("d", "e", "f"), ("a", "b", "c")]
    lines = [json.dumps(dict(zip("xyz", row, strict=True))) for row in views]
    Path("views.jsonl").write_text(f"\n{lines[0]}\n{lines[1]}\n{lines[2]}\n")
    source, split = DataSource("views.jsonl"), "train[1:]"
    mapping = ColumnMapping(view_columns=("x", "y", "z"), view_pairs="chain")
    dataset = load_split(source, split)
    if sampled is not None:
        dataset = expand_rows(dataset, mapping, keeps_columns=True).select(sampled)
    with (
        pytest.raises(ValueError, match=r"^`views.jsonl`, line 4: the target is empty\.$"),
        row_errors_located(source, {"": (split, dataset)}, mapping),
    ):
        raise RowError(3, "the target is empty.")


def test_an_expanded_row_of_no_line_is_named_with_the_row_it_comes_from():
    dataset = Dataset.from_list([{"x": "a", "y": "b", "z": "c"}, {"x": "d", "y": "e", "z": "f"}])
    mapping = ColumnMapping(view_columns=("x", "y", "z"), view_pairs="chain")
    with (
        pytest.raises(ValueError, match=r"^Row 3, made of row 1 of the data: the target is empty\.$"),
        row_errors_located(DataSource("."), {"": ("train", dataset)}, mapping),
    ):
        raise RowError(3, "the target is empty.")


def test_a_row_that_cannot_be_expanded_is_named_by_its_own_line():
    Path("views.jsonl").write_text('{"x": "a", "y": "b"}\n{"x": "c", "y": ""}\n')
    dataset, mapping = load_split(DataSource("views.jsonl"), "train"), ColumnMapping(view_columns=("x", "y"))
    with (
        pytest.raises(ValueError, match=r"^`views.jsonl`, line 2: the view 'y' is empty"),
        row_errors_located(DataSource("views.jsonl"), {"": ("train", dataset)}, mapping),
    ):
        expand_rows(dataset, mapping)


def test_where_there_are_no_lines_a_row_keeps_its_number():
    """A document, a directory, a data set of the Hub, and rows of a sample."""
    Path("rows.json").write_text(json.dumps([{"n": "0"}, {"n": "1"}]))
    dataset = load_split(DataSource("rows.json"), "train")
    for name, loaded in (
        ("rows.json", {"": ("train", dataset)}),
        (".", {"": ("train", dataset)}),
        ("rows.csv", {}),
    ):
        with (
            pytest.raises(ValueError, match=r"^Row 1: the target is empty\.$"),
            row_errors_located(DataSource(name), loaded, ColumnMapping()),
        ):
            raise RowError(1, "the target is empty.")
