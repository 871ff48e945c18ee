"""How the splits of a set come about: cut from the training rows, or as published."""

import argparse

from llm_jepa.preparers.data_set import published_splits
from llm_jepa.preparers.splits import LeftOut
from llm_jepa.preparers.upstream import own_input
from tests.preparers.upstream_files import write_jsonl

NOTHING = argparse.Namespace()


def learnt(record):
    return {"source": record.text("q"), "target": record.text("a")}


def held_out(record):
    return {"source": record.text("q"), "target": f"{record.text('a')}; more"}


def splits(directory, share, **files):
    inputs = {}
    for name, numbers in files.items():
        write_jsonl(directory / f"{name}.jsonl", [{"q": f"question {n}", "a": str(n)} for n in numbers] + [{"q": "x"}])
        inputs[name] = own_input(directory / f"{name}.jsonl")
    made = published_splits(learnt, held_out, share)(inputs, NOTHING)
    return {split: list(rows()) for split, rows in made.items()}


def test_validation_is_cut_from_the_training_rows_and_written_as_held_out_rows_are(tmp_path):
    made = splits(tmp_path, 0.3, train=range(40), test=range(100, 103))
    assert list(made) == ["test", "validation", "train"], "the order of precedence"
    complete = {split: [row for row in rows if not isinstance(row, LeftOut)] for split, rows in made.items()}
    assert {row["target"] for row in complete["test"]} == {"100; more", "101; more", "102; more"}
    assert {row["target"] for row in complete["validation"]} < {f"{n}; more" for n in range(40)}
    assert 5 < len(complete["validation"]) < 20
    assert {row["target"] for row in complete["train"]} < {str(n) for n in range(40)}
    assert len(complete["train"]) + len(complete["validation"]) == 40
    assert [len(made[split]) - len(complete[split]) for split in made] == [1, 0, 1], "a bad row is met once"


def test_a_published_validation_split_is_taken_and_all_training_rows_stay(tmp_path):
    made = splits(tmp_path, 0.3, train=range(40), test=range(100, 103), validation=range(200, 202))
    assert [row["target"] for row in made["validation"][:-1]] == ["200; more", "201; more"]
    assert len(made["train"]) == 41
