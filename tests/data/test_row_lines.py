"""A row that cannot be used is named by the line of its file."""

import json
from pathlib import Path

import pytest

from llm_jepa.data.loading import load_split
from llm_jepa.data.row_lines import line_of_row, row_errors_located
from llm_jepa.data.rows import RowError
from llm_jepa.data.source import DataSource

FILES = {
    "rows.jsonl": '\n{"n": "0"}\n{"n": "1"}\n\n{"n": "2"}\n{"n": "3"}\n',
    "rows.csv": 'n,text\n0,a\n1,"b\nc"\n\n2,d\n3,e\n',
    "rows.tsv": 'n\ttext\n0\ta\n1\t"b\nc"\n\n2\td\n3\te\n',
    "rows.txt": "0\n1\n2\n3\n",
}
LINES = {"rows.jsonl": [2, 3, 5, 6], "rows.csv": [2, 3, 6, 7], "rows.tsv": [2, 3, 6, 7], "rows.txt": [1, 2, 3, 4]}
"""The line of each row. Line 4 of the tables is the end of a field, and line 5 is blank."""


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
    with pytest.raises(ValueError, match=message), row_errors_located(DataSource("rows.jsonl"), loaded):
        raise error


def test_where_there_are_no_lines_a_row_keeps_its_number():
    """A document, a directory, a data set of the Hub, and rows that are numbered anew."""
    Path("rows.json").write_text(json.dumps([{"n": "0"}, {"n": "1"}]))
    dataset = load_split(DataSource("rows.json"), "train")
    for name, loaded in (
        ("rows.json", {"": ("train", dataset)}),
        (".", {"": ("train", dataset)}),
        ("rows.csv", {}),
    ):
        with (
            pytest.raises(ValueError, match=r"^Row 1: the target is empty\.$"),
            row_errors_located(DataSource(name), loaded),
        ):
            raise RowError(1, "the target is empty.")
