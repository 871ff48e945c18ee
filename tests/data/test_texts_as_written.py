"""A field is the text that stands in the file; a column that nobody reads does not matter."""

import gzip
import json
import math
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, IterableDataset

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.json_types import AnyJson
from llm_jepa.data.loading import load_split, stream_rows
from llm_jepa.data.rows import to_rows
from llm_jepa.data.source import DataSource

LOOKALIKES = (
    "02100", "0.50", "1e5", "+1", "-0", "1_000", "12345678901234567890123", "NaN", "nan", "Infinity", "-inf", "true",
    "True", "null", "None", "NA", "2024-01-05", "2024-01-05T10:00:00Z", "10:30", "P1D", " 7 ",
)  # fmt: skip
"""Texts that readers of tables and of JSON take for numbers, booleans, nulls and dates."""
STREAMING = pytest.mark.parametrize("streaming", [False, True])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.chdir(tmp_path)


def load(name, streaming=False, split="train") -> Dataset | IterableDataset:
    return load_split(DataSource(str(name), dataset_streaming=streaming), split)


def gzipped(content: bytes) -> bytes:
    """Without the time: these bytes name tests, which two processes must call the same."""
    return gzip.compress(content, mtime=0)


def zstd(content: bytes) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as stream:
        stream.write(content)
    return packed.getvalue().to_pybytes()


# --- tables


@STREAMING
@pytest.mark.parametrize("place", ["file", "directory", "packed"])
@pytest.mark.parametrize(("suffix", "sign"), [(".csv", ","), (".tsv", "\t")])
def test_each_field_of_a_table_is_its_text(place, suffix, sign, streaming, tmp_path):
    """Also in a column that has nothing else, and beside an empty field, which is null."""
    texts = [*LOOKALIKES, ""]
    content = "".join(
        f"{left}{sign}{right}\n" for left, right in [("q", "a"), *((f"q{i}", t) for i, t in enumerate(texts))]
    )
    name = {"file": f"rows{suffix}", "directory": f"rows/train{suffix}", "packed": f"rows{suffix}.gz"}[place]
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_bytes(gzipped(content.encode()) if place == "packed" else content.encode())
    dataset = load("rows" if place == "directory" else name, streaming)
    assert [row["a"] for row in dataset] == [*LOOKALIKES, None]


@pytest.mark.parametrize("text", LOOKALIKES)
def test_a_column_of_one_kind_of_text_is_text(text):
    """Readers choose a type by a whole column."""
    Path("a.csv").write_text(f"q,a\nx,{text}\ny,{text}\n")
    Path("a.jsonl").write_text(json.dumps({"q": "x", "a": text}) + "\n")
    assert (load("a.csv")["a"][:], load("a.jsonl")["a"][:]) == ([text, text], [text])


@STREAMING
def test_quotes_line_breaks_and_a_byte_order_mark_of_a_table(streaming):
    Path("a.csv").write_bytes(b'\xef\xbb\xbfq,a\r\n"01,\r\n02","say ""7"""\r\n"",8\r\n')
    assert list(load("a.csv", streaming)) == [{"q": "01,\r\n02", "a": 'say "7"'}, {"q": None, "a": "8"}]


def test_files_of_tables_may_differ_in_their_columns():
    """In their order and number, within a split and between splits."""
    Path("d").mkdir()
    Path("d/train-1.csv").write_text("q,a\n01,02\n")
    Path("d/train-2.csv").write_text("a,q,more\n04,03,x\n")
    Path("d/test.csv").write_text("only,q\ny,05\n")
    none = dict.fromkeys(["q", "a", "more", "only"])
    assert list(load("d")) == [none | {"q": "01", "a": "02"}, none | {"q": "03", "a": "04", "more": "x"}]
    assert list(load("d", split="test")) == [none | {"q": "05", "only": "y"}]


@STREAMING
def test_quotes_of_a_tsv_are_part_of_the_text(streaming):
    """They begin no field that goes on in the next lines."""
    rows = [('"Hello, he said.', "Bonjour"), ('"No" is no', '"'), ('"Yes"', 'say ""7""'), ('in "', "non")]
    Path("a.tsv").write_text("q\ta\n" + "".join(f"{q}\t{a}\n" for q, a in rows))
    assert list(load("a.tsv", streaming)) == [{"q": q, "a": a} for q, a in rows]


@STREAMING
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('x\t"say ""7"""\n', r'^`a\.tsv` has the field "say ""7""", which is quoted as in CSV.*writes a `\.csv`\.$'),
        (
            'x\t"y\tz"\n',
            r"^`a\.tsv` cannot be read: .*Expected 2 fields in line 3, saw 3\. Write fields that contain tabs",
        ),
    ],
)
def test_a_tsv_that_is_quoted_as_a_csv_is_refused(line, message, streaming):
    Path("a.tsv").write_text(f"q\ta\nb\tc\n{line}")
    with pytest.raises(ValueError, match=message):
        list(load("a.tsv", streaming))


@STREAMING
def test_a_tsv_whose_header_is_quoted_as_in_csv_is_refused(streaming):
    Path("a.tsv").write_text('"q"\t"a"\n"b"\t"c"\n')
    with pytest.raises(ValueError, match=r'^`a\.tsv` has the field "q", which is quoted as in CSV'):
        list(load("a.tsv", streaming))


def test_a_column_that_is_empty_first_and_a_number_after_many_rows_is_text():
    """Tables are read 10,000 rows at a time."""
    Path("a.csv").write_text("q,a\n" + "x,\n" * 10_500 + "x,07\n")
    for streaming in (False, True):
        assert [row["a"] for row in load("a.csv", streaming)] == [None] * 10_500 + ["07"]


# --- JSON


@STREAMING
@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.jsonl.zst", "a/train.jsonl", "a/train.jsonl.gz"]
)
def test_a_text_in_json_is_text_at_any_depth(name, streaming):
    rows = [
        {"q": text, "of": {"it": text}, "all": [text], "messages": [{"role": "user", "content": text}]}
        for text in LOOKALIKES
    ]
    content = (json.dumps(rows, indent=1) if name == "a.json" else "\n".join(map(json.dumps, rows))).encode()
    pack = {".gz": gzipped, ".zst": zstd}.get(Path(name).suffix, bytes)
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_bytes(pack(content))
    assert list(load("a" if "/" in name else name, streaming)) == rows


@STREAMING
def test_a_number_in_json_keeps_its_type_beside_any_other(streaming):
    """1 is no 1.0, and no digit is lost; each column but `plain` mixes types."""
    rows = [
        {"plain": 1, "n": 1, "bool": 1, "big": 2**70, "text": "2024", "in": [{"a": 1}, "1"], "late": None},
        {"plain": 2, "n": 0.1234567890123456789, "bool": True, "big": -1, "text": 2024, "in": "01", "late": None},
        {"plain": None, "n": None, "bool": None, "big": None, "text": None, "in": None, "late": {"x": "y"}},
    ]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = list(load("a.jsonl", streaming))
    assert [[(name, type(value), value) for name, value in row.items()] for row in read] == [
        [(name, type(value), value) for name, value in row.items()] for row in rows
    ]
    dataset = load("a.jsonl")
    assert dataset.features["plain"].dtype == "int64"
    assert isinstance(dataset.features["n"], AnyJson)


@STREAMING
def test_numbers_that_python_writes_into_json(streaming):
    Path("a.jsonl").write_text('{"n": NaN}\n{"n": -Infinity}\n{"n": 1e400}\n')
    nan, *infinite = (row["n"] for row in load("a.jsonl", streaming))
    assert math.isnan(nan)
    assert infinite == [-math.inf, math.inf]


@STREAMING
def test_fields_that_some_rows_lack_are_null(streaming):
    """In the row and in objects, as Arrow has them."""
    Path("a.jsonl").write_text('{"q": "x", "in": {"a": 1}}\n{"in": {"b": "2"}, "l": [{"c": 1}, {}]}\n')
    assert list(load("a.jsonl", streaming)) == [
        {"q": "x", "in": {"a": 1, "b": None}, "l": None},
        {"q": None, "in": {"a": None, "b": "2"}, "l": [{"c": 1}, {"c": None}]},
    ]


def test_an_object_of_very_many_names_and_one_of_none_are_read():
    rows = [{"n": {f"key {i}": i}, "e": {}} for i in range(300)]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(load("a.jsonl")) == rows


@STREAMING
@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.jsonl", '\ufeff{"a": "1"}\r\n\r\n \n{"a": "2"}', [{"a": "1"}, {"a": "2"}]),
        ("a.json", '["01", "2024-01-05"]', [{"text": "01"}, {"text": "2024-01-05"}]),
        ("a.json", '{\n "a": {\n "b": "01"}}', [{"a": {"b": "01"}}]),
        ("a.jsonl", '{\n "a": "01"\n}\n{\n "a": "02"\n}\n', [{"a": "01"}, {"a": "02"}]),
        ("a.jsonl", '[{"a": "01"},\n {"a": "02"}]', [{"a": "01"}, {"a": "02"}]),
        ("a.jsonl", '[{"a": "01"}, {"a": "02"}]\n', [{"a": "01"}, {"a": "02"}]),
        ("a.jsonl", '{"a": "\\ud83d\\ude00"}\n', [{"a": "😀"}]),
    ],
)  # fmt: skip
def test_forms_of_a_json_file(name, content, rows, streaming):
    Path(name).write_bytes(content.encode())
    assert list(load(name, streaming)) == rows


@STREAMING
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"a": "x"}\n{"a": "\\ud83d"}\n', r"line 2: '\\ud83d' is half a character"),
        ("a.jsonl", '{"a": "x"}\n{"a": ' + "[" * 100_000 + "\n", "line 2: cannot be read: .*recursion"),
        ("a.jsonl", '{"a": ' + "1" * 5000 + "}\n", "line 1: cannot be read: .*4300 digits"),
        ("a.json", '[{"a": 1},\n{"a": 2},\n3]', "line 1: a row must be an object, not 3"),
        ("a.jsonl.gz", gzipped(b'{"a": "x"}\n' * 5000)[:-30], r"`a\.jsonl\.gz` cannot be unpacked"),
        ("a.csv.gz", gzipped(b"q,a\n" + b"01,x\n" * 5000)[:-30], r"`a\.csv\.gz` cannot be unpacked"),
        ("a.jsonl.zst", zstd(b'{"a": "x"}\n' * 5000)[:-3], r"`a\.jsonl\.zst` cannot be unpacked"),
        ("a.jsonl.gz", gzipped(b'{"a": "x"}\n{oops}\n'), r"`a\.jsonl\.gz`, line 2: not JSON"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_in_a_line(name, content, message, streaming):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        list(stream_rows(DataSource(name), "train") if streaming else load(name))


# --- a column that nobody reads


@STREAMING
def test_a_column_that_nobody_reads_may_change_its_type_late(streaming, monkeypatch):
    """After the first table of a file, and after what is looked at of a stream."""
    monkeypatch.setattr("llm_jepa.data.text_builders.BATCH_ROWS", 10)
    notes = [None] * 25 + ["text", 7, {"a": []}, ["2024"]]
    rows = [{"q": f"q{i}", "a": "b", "note": note} for i, note in enumerate(notes)] + [{"q": "q", "a": "b", "new": 1}]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = load("a.jsonl", streaming)
    assert [row["note"] for row in dataset] == [*notes, None]
    made = to_rows(dataset, ColumnMapping("q", "a"), True)
    assert [row["source"] for row in made] == [row["q"] for row in rows]


def test_a_stream_goes_on_where_it_stopped_past_a_change_of_type():
    rows = [{"q": str(i), "note": None if i < 5 else i} for i in range(10)]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stream = load("a.jsonl", streaming=True)
    iterator = iter(stream)
    first = [next(iterator)["q"] for _ in range(7)]
    state = stream.state_dict()
    again = load("a.jsonl", streaming=True)
    again.load_state_dict(state)
    assert first + [row["q"] for row in again] == [row["q"] for row in rows]


def test_splits_of_a_directory_may_have_columns_of_their_own():
    Path("d").mkdir()
    Path("d/train.jsonl").write_text('{"q": "a", "n": 1}\n')
    Path("d/test.jsonl").write_text('{"q": "b", "extra": "x", "n": "one"}\n')
    assert list(load("d")) == [{"q": "a", "n": 1, "extra": None}]
    assert list(load("d", split="test")) == [{"q": "b", "n": "one", "extra": "x"}]


# --- files of Arrow


@STREAMING
@pytest.mark.parametrize("opens", [pa.ipc.new_file, pa.ipc.new_stream])
def test_arrow_files_are_read(opens, streaming):
    table = pa.table({"q": ["x", "y"], "a": ["01", "2024-01-05"]})
    with pa.OSFile("rows.arrow", "wb") as file, opens(file, table.schema) as writer:
        writer.write_table(table)
    assert list(load("rows.arrow", streaming)) == table.to_pylist()


@STREAMING
def test_a_saved_data_set_is_read(streaming):
    """One data set is the split `train`; a dictionary has its own splits."""
    rows = [{"q": f"0{i}", "a": "2024"} for i in range(4)]
    Dataset.from_list(rows).save_to_disk("one")
    DatasetDict({"train": Dataset.from_list(rows[:3]), "dev": Dataset.from_list(rows[3:])}).save_to_disk("two")
    assert list(load("one", streaming)) == rows
    assert list(load("two", streaming)) == rows[:3]
    assert list(load("two", streaming, "dev")) == rows[3:]
    assert [row["q"] for row in stream_rows(DataSource("one"), "train", 2)] == ["00", "01"]
    with pytest.raises(ValueError, match=r"""Unknown split "test"\. Should be one of \['train', 'dev'\]"""):
        load("two", streaming, "test")


def test_a_saved_data_set_has_slices_and_no_configurations():
    rows = [{"q": str(i)} for i in range(10)]
    Dataset.from_list(rows).save_to_disk("one")
    assert load("one", split="train[90%:]+train[:2]")["q"][:] == ["9", "0", "1"]
    with pytest.raises(ValueError, match="`dataset_config: main` has no effect on a saved data set"):
        load_split(DataSource("one", dataset_config="main"), "train")


def test_a_saved_data_set_that_is_saved_again_is_read_again():
    Dataset.from_list([{"q": "old", "a": "b"}]).save_to_disk("one")
    assert to_rows(load("one"), ColumnMapping("q", "a"), True)["source"][:] == ["old"]
    Dataset.from_list([{"q": "new", "a": "b"}]).save_to_disk("one")
    assert to_rows(load("one"), ColumnMapping("q", "a"), True)["source"][:] == ["new"]


def test_a_saved_data_set_is_known_by_its_rows():
    """A generator that reads a file makes data of one fingerprint, whatever the file holds."""
    for word in ("old", "new"):
        Dataset(Dataset.from_list([{"q": word, "a": "b"}]).data, fingerprint="same").save_to_disk("one")
        for split in ("train", "train[:1]+train[:1]"):
            assert set(to_rows(load("one", split=split), ColumnMapping("q", "a"), True)["source"]) == {word}


@STREAMING
@pytest.mark.parametrize("kind", ["numpy", "pandas", "torch", None])
def test_a_saved_data_set_is_read_without_its_format(kind, streaming):
    rows = [{"q": "x", "n": [1, 2]}, {"q": "y", "n": [3]}]
    Dataset.from_list(rows).with_format(kind, columns=["n"]).save_to_disk("one")
    assert list(load("one", streaming)) == rows


# --- hidden files


@STREAMING
def test_hidden_files_are_no_data(streaming):
    """As for `datasets`: macOS leaves `._train.jsonl` beside the data."""
    Path("d/.hidden").mkdir(parents=True)
    Path("d/train.jsonl").write_text('{"q": "a"}\n')
    Path("d/._train.jsonl").write_bytes(b"\x00\x05\x16\x07\xff\xfe")
    Path("d/.cache.json").touch()
    Path("d/.hidden/train.csv").touch()
    assert list(load("d", streaming)) == [{"q": "a"}]
    assert list(stream_rows(DataSource("d"), "train")) == [{"q": "a"}]


# --- the Hub


@STREAMING
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".jsonl.gz"])
def test_files_on_the_hub_are_read_as_local_ones(suffix, streaming, hub, monkeypatch):
    """Once they are prepared, also without the Hub."""
    rows = [{"q": f"q{i}", "a": text} for i, text in enumerate(("02100", "0.50", "true", "2024-01-05"))]
    content = "q,a\n" + "".join(f"{row['q']},{row['a']}\n" for row in rows) if suffix == ".csv" else ""
    content = content or "".join(json.dumps(row) + "\n" for row in rows)
    packed = gzipped(content.encode()) if suffix.endswith(".gz") else content.encode()
    hub.add("team/pairs", {f"data/train{suffix}": packed}, kind="datasets")
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    assert list(load("team/pairs", streaming)) == rows
    if not streaming:
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert list(load("team/pairs")) == rows
