"""Rows go to splits by their keys; duplicates and overlaps are left out and counted, as counted by hand."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.preparers.records import Record
from llm_jepa.preparers.splits import (
    LeftOut,
    SplitWriter,
    by_any_text,
    by_either_view,
    by_source,
    convert,
    rows_of_split,
)


def pair(source, target, **more):
    return {"source": source, "target": target, **more}


def written(directory, split):
    path = directory / f"{split}.jsonl"
    return [tuple(json.loads(line).values()) for line in path.read_text().splitlines()] if path.exists() else []


TEST = [pair("a", "1"), pair("b", "2"), pair("b", "2"), pair("b", "3")]
TRAIN = [
    pair("a", "9"),  # a tested source
    pair("z", "2"),  # a tested target
    pair("2", "b"),  # a tested target as source, a tested source as target
    pair("c", "4"),
    pair("c", "4"),  # came twice
    pair("c", "5"),
]


@pytest.mark.parametrize(
    ("overlap", "kept", "overlapping"),
    [
        (by_source, [("z", "2"), ("2", "b"), ("c", "4"), ("c", "5")], 1),
        (by_either_view, [("2", "b"), ("c", "4"), ("c", "5")], 2),
        (by_any_text, [("c", "4"), ("c", "5")], 3),
    ],
)
def test_overlap_and_duplicates_are_counted(tmp_path, overlap, kept, overlapping):
    writer = SplitWriter(tmp_path, overlap, keep_duplicates=False, skip_incomplete=False)
    tested = writer.write("test", TEST, is_last=False)
    trained = writer.write("train", TRAIN, is_last=True)
    assert (tested.num_received, tested.num_written, tested.num_duplicates) == (4, 3, 1)
    assert written(tmp_path, "test") == [("a", "1"), ("b", "2"), ("b", "3")]
    assert (trained.num_received, trained.num_written, trained.num_duplicates) == (6, len(kept), 1)
    assert trained.overlaps == {"test": overlapping}
    assert written(tmp_path, "train") == kept


def test_duplicates_can_stay_and_are_counted_all_the_same(tmp_path):
    writer = SplitWriter(tmp_path, by_source, keep_duplicates=True, skip_incomplete=False)
    counts = writer.write("test", TEST, is_last=True)
    assert (counts.num_written, counts.num_duplicates) == (4, 1)


def test_a_row_with_another_extra_column_is_no_duplicate(tmp_path):
    writer = SplitWriter(tmp_path, by_source, keep_duplicates=False, skip_incomplete=False)
    assert writer.write("test", [pair("a", "1", n=1), pair("a", "1", n=2)], is_last=True).num_written == 2


def test_the_first_split_of_several_that_shares_is_named(tmp_path):
    writer = SplitWriter(tmp_path, by_source, keep_duplicates=False, skip_incomplete=False)
    writer.write("test", [pair("a", "1")], is_last=False)
    writer.write("validation", [pair("b", "1")], is_last=False)
    counts = writer.write("train", [pair("a", "2"), pair("b", "2"), pair("b", "3")], is_last=True)
    assert counts.overlaps == {"test": 1, "validation": 2}
    assert not (tmp_path / "train.jsonl").exists(), "an empty file cannot be loaded"


def records(*values):
    return [Record(value, f"`f`, line {number}") for number, value in enumerate(values, start=1)]


def to_row(record):
    return {name: record.text(name) for name in ("source", "target")}


INCOMPLETE = records(pair("a", "1"), {"source": "b"}, pair("c", " "), pair("d", None), pair("e", "2"), {})


def test_an_incomplete_row_ends_the_run_with_its_place(tmp_path):
    writer = SplitWriter(tmp_path, by_source, keep_duplicates=False, skip_incomplete=False)
    with pytest.raises(ValueError, match=r"`f`, line 2: incomplete: there is no column 'target' .*--skip_incomplete"):
        writer.write("train", convert(INCOMPLETE, to_row), is_last=True)


def test_incomplete_rows_are_skipped_on_demand_and_counted(tmp_path):
    writer = SplitWriter(tmp_path, by_source, keep_duplicates=False, skip_incomplete=True)
    counts = writer.write("train", convert(INCOMPLETE, to_row), is_last=True)
    assert (counts.num_received, counts.num_written, counts.num_incomplete) == (6, 2, 4)
    assert counts.incomplete == ["`f`, line 2", "`f`, line 3", "`f`, line 4"]


SHARES = {"test": 0.2, "validation": 0.1}


def split_of(rows, split):
    return list(rows_of_split(rows, SHARES, split, key=lambda row: row["source"]))


@given(st.lists(st.tuples(st.sampled_from("abcdefghijklmnop"), st.text()), max_size=30))
def test_every_row_goes_to_one_split_and_equal_keys_to_the_same(pairs):
    rows = [pair(*texts) for texts in pairs]
    parts = {split: split_of(rows, split) for split in ("test", "validation", "train")}
    assert sorted(str(row) for part in parts.values() for row in part) == sorted(map(str, rows))
    keys = [{row["source"] for row in part} for part in parts.values()]
    assert len(set.union(*keys)) == sum(map(len, keys))
    backwards = split_of(rows[::-1], "test")
    assert backwards == parts["test"][::-1], "the order of the rows decides nothing"


def test_shares_are_about_what_was_asked_for():
    """Of 2,000 keys; four standard errors are 3.6 and 2.7 points."""
    rows = [pair(str(number), "") for number in range(2000)]
    assert len(split_of(rows, "test")) / 2000 == pytest.approx(0.2, abs=0.036)
    assert len(split_of(rows, "validation")) / 2000 == pytest.approx(0.1, abs=0.027)


def test_what_is_left_out_before_rows_are_dealt_to_splits_comes_once_and_is_of_none():
    rows = [LeftOut("empty"), pair("a", "1")]
    left_out = [row for split in ("test", "validation", "train") for row in split_of(rows, split) if row != rows[1]]
    assert left_out == [LeftOut("empty", is_before_split=True)]
    assert next(rows_of_split(rows, {"test": 0.0}, "train", key=str)) == rows[0], "all rows are for one split"


LEFT_OUT = [LeftOut("empty"), LeftOut("long"), LeftOut("incomplete", "`f`, line 1")]
SOME_ROWS = st.lists(st.builds(pair, st.sampled_from("abcd"), st.sampled_from("1234")) | st.sampled_from(LEFT_OUT))


@given(st.lists(SOME_ROWS, min_size=1, max_size=3), st.booleans())
def test_what_came_is_written_or_left_out_for_one_reason(splits, keep_duplicates):
    with tempfile.TemporaryDirectory() as directory:
        writer = SplitWriter(Path(directory), by_source, keep_duplicates, skip_incomplete=True)
        for number, rows in enumerate(splits):
            counts = writer.write(str(number), rows, is_last=False)
            left_out = counts.overlaps.total() + counts.left_out.total() + counts.num_incomplete
            left_out += 0 if keep_duplicates else counts.num_duplicates
            assert counts.num_received == len(rows) == counts.num_written + left_out
            assert counts.num_written == len(written(Path(directory), str(number)))
