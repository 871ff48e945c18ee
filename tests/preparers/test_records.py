"""Records come one at a time with their places; what cannot be read is named with file and line."""

import os

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.files.text_lines import MAX_LINE_BYTES
from llm_jepa.preparers.records import IncompleteRecordError, Record, read_aligned_lines, read_records

ROWS = [{"a": "1", "b": "é"}, {"a": "2", "b": 'quoted "text"'}]
CONTENTS = {
    ".jsonl": '{"a": "1", "b": "é"}\n\n{"a": "2", "b": "quoted \\"text\\""}\n',
    ".json": '[{"a": "1", "b": "é"},\n {"a": "2", "b": "quoted \\"text\\""}]',
    ".csv": 'a,b\n1,é\n2,"quoted ""text"""\n',
    ".tsv": 'a\tb\n1\té\n2\tquoted "text"\n',
}
PLACES = {".jsonl": "line 3", ".json": "item 2", ".csv": "line 3", ".tsv": "line 3", ".parquet": "row 2"}


@pytest.mark.parametrize("suffix", [*CONTENTS, ".parquet"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_format_gives_the_same_records(tmp_path, suffix, mark):
    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        pa.parquet.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_text(mark + CONTENTS[suffix], encoding="utf-8")
    records = list(read_records(path))
    assert [record.values for record in records] == ROWS
    assert records[1].place == f"`{path}`, {PLACES[suffix]}"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.jsonl", b'{"a": 1}\n{"a": \n', "line 2: not JSON"),
        ("r.jsonl", b'{"a": 1}\n[1]\n', r"line 2: a row must be an object, not \[1\]"),
        ("r.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n', "line 2: byte 19 of the file is not UTF-8"),
        ("r.jsonl", '{"a": 1}\n'.encode("utf-16"), "line 1: byte 0 of the file is not UTF-8"),
        ("r.json", b'[{"a": 1},\n{"a": ]', "line 2: not JSON"),
        ("r.json", b'{"a": 1}', "must hold a list of objects"),
        ("r.csv", b"a,b\n1,2\n1,2,3\n", r"line 3: 3 fields, not 2 \(a, b\)"),
        ("r.csv", b'a,b\n1,"2\n', "line 2: unexpected end of data"),
        ("r.csv", b"a,b\n1,\xe9\n", "line 2: byte 6 of the file is not UTF-8"),
        ("r.parquet", b"PAR1 no more", "cannot be read as Parquet"),
        ("r.xlsx", b"", "must end in one of .jsonl, .json, .csv, .tsv, .parquet"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        list(read_records(path))
    assert str(path) in str(raised.value)


def test_a_file_of_10_gb_without_a_line_break_is_refused_after_the_first_bytes(tmp_path):
    path = tmp_path / "zeros.jsonl"
    path.touch()
    os.truncate(path, 10 * 2**30)  # a sparse file: no disk is used
    with pytest.raises(ValueError, match=f"line 1: longer than {MAX_LINE_BYTES} bytes"):
        next(read_records(path))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\ufeff"))))
def test_aligned_lines_are_the_lines_of_both_files(tmp_path_factory, texts):
    directory = tmp_path_factory.mktemp("aligned")
    for name, ending in (("a", "\n"), ("b", "\r\n")):
        (directory / name).write_bytes("".join(f"{text}.{ending}" for text in texts).encode())
    records = list(read_aligned_lines(directory / "a", directory / "b"))
    assert [record.values["source"] for record in records] == [f"{text}.\n" for text in texts]
    assert [record.text("target") for record in records] == [f"{text}.".strip() for text in texts]


@pytest.mark.parametrize(("a", "b", "shorter"), [("1\n2\n", "1\n", "b"), ("1\n", "1\n2", "a")])
def test_files_with_other_numbers_of_lines_are_refused(tmp_path, a, b, shorter):
    for name, content in (("a", a), ("b", b)):
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"{shorter}` ends after line 1"):
        list(read_aligned_lines(tmp_path / "a", tmp_path / "b"))


@pytest.mark.parametrize(
    ("value", "message"),
    [(" \n", "is empty"), (None, "not a text"), (3, "holds 3, not a text"), ("\ud83d", "an unpaired surrogate")],
)
def test_a_column_without_a_text_is_incomplete(value, message):
    with pytest.raises(IncompleteRecordError, match=message):
        Record({"a": value}, "").text("a")


def test_a_missing_column_names_those_there_are():
    with pytest.raises(IncompleteRecordError, match=r"no column 'c' among \['a', 'b'\]"):
        Record(ROWS[0], "").text("c")


@pytest.mark.parametrize("value", ["text", [], ["a", ""], ["a", 1]])
def test_a_list_of_texts_holds_texts(value):
    with pytest.raises(IncompleteRecordError):
        Record({"a": value}, "").texts("a")
