"""Data come from files, directories and streams; what cannot be read is named with its file and line."""

import json
import logging
import os
import re
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, IterableDataset
from trl import ScriptArguments

from llm_jepa.data.loading import load_split

ROWS = [{"source": f"lines with {n}", "target": f".*{n}.*"} for n in range(5)]
GOOD = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


def load(name, split="train", **options):
    return load_split(ScriptArguments(dataset_name=str(name), **options), split)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_local_file_is_the_split_train(tmp_path, suffix, streaming):
    file = tmp_path / f"pairs{suffix}"
    data = Dataset.from_list(ROWS)
    {
        ".jsonl": lambda: data.to_json(file),
        ".json": lambda: file.write_text(json.dumps(ROWS, indent=1)),
        ".csv": lambda: data.to_csv(file),
        ".tsv": lambda: data.to_csv(file, sep="\t"),
        ".parquet": lambda: data.to_parquet(file),
    }[suffix]()
    loaded = load(file, dataset_streaming=streaming)
    assert isinstance(loaded, IterableDataset if streaming else Dataset)
    assert list(loaded) == ROWS


@pytest.mark.parametrize("name", ["rows[1].jsonl", "rows?.jsonl", "row*.jsonl", "rows[[].jsonl"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_files_name_is_no_pattern(name, streaming, tmp_path, monkeypatch):
    """Nor is the path of the directory that it lies in."""
    directory = tmp_path / "data[v2]"
    directory.mkdir()
    (directory / "rows1.jsonl").write_text(GOOD)
    (directory / name).write_text(json.dumps(ROWS[3]))
    monkeypatch.chdir(directory)
    assert list(load(name, dataset_streaming=streaming)) == [ROWS[3]]


def test_a_directory_that_would_be_a_pattern_is_refused(tmp_path, monkeypatch):
    """Unless `save_to_disk` wrote it."""
    (tmp_path / "data[v2]").mkdir()
    (tmp_path / "data[v2]" / "train.jsonl").write_text(GOOD)
    Dataset.from_list(ROWS).save_to_disk("saved[v2]")
    message = rf"`{re.escape(str(tmp_path))}/data\[v2\]` contains `\*`, `\?` or `\[`.*Rename"
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "data[v2]")
    assert list(load("saved[v2]")) == ROWS
    monkeypatch.chdir(tmp_path / "data[v2]")
    with pytest.raises(ValueError, match=message):
        load(".")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["train.txt", "."])
def test_each_line_of_a_text_file_is_a_row(name, streaming, tmp_path, monkeypatch):
    """But the blank ones."""
    (tmp_path / "texts").mkdir()
    monkeypatch.chdir(tmp_path / "texts")
    (tmp_path / "texts" / "train.txt").write_text("one, two\n\n \t\nthree\n\n")
    assert list(load(name, dataset_streaming=streaming)) == [{"text": "one, two"}, {"text": "three"}]


def test_beside_data_a_text_file_is_a_note(tmp_path):
    (tmp_path / "train.jsonl").write_text(GOOD)
    (tmp_path / "notes.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.txt").touch()
    assert list(load(tmp_path)) == ROWS


@pytest.mark.parametrize("streaming", [False, True])
def test_a_directory_has_a_split_for_each_file(tmp_path, streaming):
    (tmp_path / "train.jsonl").write_text(GOOD)
    (tmp_path / "test.jsonl").write_text(json.dumps(ROWS[3]))
    assert list(load(tmp_path, dataset_streaming=streaming)) == ROWS
    assert list(load(tmp_path, "test", dataset_streaming=streaming)) == [ROWS[3]]


@pytest.mark.parametrize(("name", "separator"), [("train.csv", ","), ("train.tsv", "\t")])
@pytest.mark.parametrize("is_directory", [False, True])
def test_words_that_pandas_takes_for_missing_are_texts(tmp_path, name, separator, is_directory, monkeypatch):
    """In a file and in a directory of files; a field without anything in it is missing."""
    answers = ["None", "NA", "null", "nan", "N/A", "", "yes"]
    (tmp_path / "pairs").mkdir()
    monkeypatch.chdir(tmp_path / "pairs")
    lines = ["source,target", *(f"q{i},{answer}" for i, answer in enumerate(answers)), ""]
    (tmp_path / "pairs" / name).write_text("\n".join(lines).replace(",", separator))
    assert [row["target"] for row in load("." if is_directory else name)] == [answer or None for answer in answers]


def test_a_directory_that_is_prepared_again_is_read_again(tmp_path):
    """Its card, such as the scripts in `data/` write, makes `datasets` go by the path alone."""
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: train.jsonl\n---\n"
    (tmp_path / "README.md").write_text(card)
    for texts in (["one", "two"], ["three"]):
        (tmp_path / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        assert load_split(ScriptArguments(dataset_name=str(tmp_path)), "train")["text"][:] == texts


def test_a_file_that_is_replaced_is_read_again_whatever_its_time(tmp_path):
    """Archives and copies may give every file the same."""
    for text in ("old", "newer"):
        (tmp_path / "train.jsonl").write_text(json.dumps({"text": text}))
        os.utime(tmp_path / "train.jsonl", ns=(0, 0))
        assert load("train.jsonl")["text"][:] == [text]


def test_a_slice_of_a_split(tmp_path):
    (tmp_path / "pairs.jsonl").write_text(GOOD)
    assert list(load("pairs.jsonl", "train[1:3]")) == ROWS[1:3]
    with pytest.raises(ValueError, match=r"^Split `train\[:0\]` of `.*pairs\.jsonl` has no rows\.$"):
        load("pairs.jsonl", "train[:0]")
    with pytest.raises(ValueError, match="is a slice, which a stream cannot take"):
        load("pairs.jsonl", "train[1:3]", dataset_streaming=True)


@pytest.mark.parametrize("streaming", [False, True])
def test_an_unknown_split_lists_those_there_are(tmp_path, streaming):
    (tmp_path / "train.jsonl").write_text(GOOD)
    (tmp_path / "test.jsonl").write_text(GOOD)
    with pytest.raises(ValueError, match=r"`tset`.*'train', 'test'"):
        load(tmp_path, "tset", dataset_streaming=streaming)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.jsonl", GOOD + '{"source": "x", target}\n', r"broken\.jsonl`, line 6: not JSON: .* \(column 17\)"),
        ("cut.jsonl", GOOD[:-5], r"line 5: not JSON: Unterminated string"),
        ("text.jsonl", "hello\n", "line 1: not JSON: Expecting value"),
        ("listed.jsonl", GOOD + "[1, 2]\n", r"line 6: a row must be an object, not \[1, 2\]"),
        ("broken.json", '[{"source": "x"},\n{"source" 1}]', r"broken\.json`, line 2: not JSON: Expecting ':'"),
        ("latin.jsonl", GOOD.encode() + b'{"source": "caf\xe9"}', f"line 6: byte {len(GOOD) + 15} .* not UTF-8"),
        ("latin.csv", b"source,target\ncaf\xe9,x\n", r"latin\.csv`, line 2: byte 17 .* not UTF-8"),
        ("utf16.jsonl", GOOD.encode("utf-16"), "line 1: byte 0 .* not UTF-8"),
        ("ragged.csv", "source,target\na,b\na,b,c,d\n", "Expected 2 fields in line 3, saw 4"),
        ("no.parquet", "not parquet", r"no\.parquet` cannot be loaded: .*[Pp]arquet"),
        ("empty.jsonl", "", r"`empty\.jsonl` is empty"),
        ("blank.jsonl", "\n\n", r"blank\.jsonl"),
        ("header.csv", "source,target\n", r"header\.csv"),
        ("latin.txt", b"a\ncaf\xe9\n", r"latin\.txt`, line 2: byte 5 .* not UTF-8"),
        ("pairs.xlsx", "a b", r"must end in one of \.jsonl, \.json, \.csv, \.tsv, \.parquet, \.txt"),
    ],
)
def test_unreadable_files_are_named_with_the_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        load(name)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "question;sql\na;b\n", r"`a\.csv` seems to be separated by `;`: .*'question;sql'.*sep=';'"),
        ("a.csv", "question;sql\na;select b, c\n", "seems to be separated by `;`"),
        ("a.csv", "question;sql\na;b\na;select b, c\n", "seems to be separated by `;`"),
        ("a.csv", "\nquestion|sql\na|b\n", r"seems to be separated by `\|`"),
        ("a.csv", "question\tsql\na\tb\n", r"seems to be separated by tabs: .* rename it to `a\.tsv`"),
        ("a.tsv", "question,sql\na,b\n", r"seems to be separated by commas: .* rename it to `a\.csv`"),
    ],
)
def test_another_separator_is_named(name, content, message, streaming, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load(name, dataset_streaming=streaming)


def test_other_separators_in_a_name_are_part_of_it(tmp_path):
    (tmp_path / "a.csv").write_text("source;old,target|new\na,b\n")
    assert list(load("a.csv")) == [{"source;old": "a", "target|new": "b"}]
    (tmp_path / "text.csv").write_text("text\na;b\n")
    assert list(load("text.csv")) == [{"text": "a;b"}]


@pytest.mark.parametrize("streaming", [False, True])
def test_the_advice_suits_the_error_and_the_loader_keeps_silent(tmp_path, streaming):
    """`datasets` logs what it raises; slices are of use to who names a split that is not there."""
    logged = []
    handler = logging.Handler()
    handler.emit = logged.append
    (tmp_path / "ragged.csv").write_text("source,target\na,b\na,b,c,d\n")
    (tmp_path / "pairs.jsonl").write_text(GOOD)
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "train.jsonl").write_text(GOOD)
    (tmp_path / "mixed" / "test.csv").write_text("source,target\na,b\n")
    logging.getLogger("datasets").addHandler(handler)
    try:
        for name, split, end in (
            ("ragged.csv", "train", "saw 4. Put a field that contains a separator between double quotes."),
            ("mixed", "train", " The files of one directory must have one format; `mixed` has .csv, .jsonl."),
            ("pairs.jsonl", "tset", "To take a part of a split, write a slice, e.g. `train[90%:]`."),
        ):
            with pytest.raises(ValueError, match=f"{re.escape(end)}$") as error:
                load(name, split, dataset_streaming=streaming)
            assert ("To take a part of a split" in str(error.value)) == (split == "tset")
    finally:
        logging.getLogger("datasets").removeHandler(handler)
    assert logged == []


def test_a_broken_stream_is_named_with_the_line(tmp_path):
    (tmp_path / "broken.jsonl").write_text(GOOD + "{oops\n")
    with pytest.raises(ValueError, match="line 6: not JSON"):
        load("broken.jsonl", dataset_streaming=True)


@pytest.mark.parametrize("name", ["pairs.jsonl", "./pairs", "data/of/mine", "team/pairs", "pairs"])
def test_what_is_missing_is_named_with_where_it_was_looked_for(tmp_path, name):
    with pytest.raises(ValueError, match="There is no file or directory `") as error:
        load(name)
    assert f"(looked in {tmp_path})" in str(error.value)


def test_a_directory_without_data(tmp_path):
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(ValueError, match="has no file that ends in"):
        load(tmp_path)


def test_a_file_has_no_configurations(tmp_path):
    (tmp_path / "pairs.jsonl").write_text(GOOD)
    with pytest.raises(ValueError, match="`dataset_config: main` has no effect on a single file"):
        load("pairs.jsonl", dataset_config="main")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("files", "several"),
    [
        (("a.jsonl", "b.csv"), "`a.jsonl`, `b.csv`"),
        (("a.csv", "b.tsv"), "`a.csv`, `b.tsv`"),
        (("rows.jsonl", "licence.txt", "notes.txt"), "`rows.jsonl`, `notes.txt`"),
    ],
)
def test_files_of_another_format_are_not_left_out_in_silence(files, several, streaming, tmp_path):
    """`datasets` takes the commonest format, and reads a TSV beside a CSV at its commas."""
    for name in files:
        separated = "source,target\na,b\n".replace(",", "\t" if name.endswith("tsv") else ",")
        (tmp_path / name).write_text(GOOD if name.endswith("jsonl") else separated)
    with pytest.raises(ValueError, match=f"must have one format; {several} have several"):
        load(tmp_path, dataset_streaming=streaming)


def test_a_file_that_no_split_takes_is_named(tmp_path, caplog):
    (tmp_path / "train.jsonl").write_text(GOOD)
    (tmp_path / "more.jsonl").write_text(GOOD)
    assert list(load(tmp_path)) == ROWS
    assert "`more.jsonl` is not read, since others are named as splits" in caplog.text


@pytest.mark.parametrize("streaming", [False, True])
def test_a_byte_order_mark_is_no_part_of_a_text(streaming, tmp_path):
    (tmp_path / "texts.txt").write_text("one\ntwo\n", encoding="utf-8-sig")
    assert list(load(tmp_path / "texts.txt", dataset_streaming=streaming)) == [{"text": "one"}, {"text": "two"}]


def test_a_directory_loads_whatever_lies_beside_its_data(tmp_path):
    (tmp_path / "train.jsonl").write_text(GOOD)
    (tmp_path / "notes.md").symlink_to("gone.md")
    assert list(load(tmp_path)) == ROWS


@pytest.mark.parametrize("streaming", [False, True])
def test_a_row_with_more_fields_than_the_header_is_refused(tmp_path, streaming):
    """pandas would make `one` an index and shift the others."""
    (tmp_path / "rows.csv").write_text("source,target\none,two,three\n")
    with pytest.raises(ValueError, match="have more fields than its header has names"):
        load(tmp_path / "rows.csv", dataset_streaming=streaming)


# --- one validation


@pytest.fixture
def validations(monkeypatch):
    """The rows of each validation that reads the whole of the texts."""
    rows = []
    validate = datasets.table.Table.validate

    def counted(self, *args, **kwargs):
        rows.append(self.num_rows)
        return validate(self, *args, **kwargs)

    monkeypatch.setattr(datasets.table.Table, "validate", counted)
    return rows


def test_rows_are_read_whole_once_and_not_at_each_start(tmp_path, validations):
    """Each split by itself, since a slice validates its own rows alone."""
    (tmp_path / "pairs.jsonl").write_text(GOOD)
    for split in ("train", "train", "train[:2]", "train[:2]"):
        load("pairs.jsonl", split)
    assert validations == [5, 2]


def test_changed_rows_are_read_again_and_what_is_not_utf8_is_refused_each_time(tmp_path, validations):
    """The reader of JSON refuses such a line, before there are rows to validate."""
    file = tmp_path / "pairs.jsonl"
    file.write_text(GOOD)
    load(file)
    file.write_bytes(GOOD.encode() + b'{"source": "caf\xe9", "target": "x"}\n')
    for _ in range(2):
        with pytest.raises(ValueError, match=r"line 6: .* not UTF-8"):
            load(file)
    assert validations == [5]


def test_an_arrow_file_that_was_changed_is_validated_again(tmp_path, validations):
    file = tmp_path / "pairs.jsonl"
    file.write_text(GOOD)
    (arrow,) = (Path(one["filename"]) for one in load(file).cache_files)
    os.utime(arrow, ns=(0, 0))
    load(file)
    assert validations == [5, 5]
