"""Generated sets: golds and a solver's answers are right, splits are disjoint for all seeds, sizes are as asked."""

import hashlib
import re

import pytest

from llm_jepa.preparers.countdown import puzzle_of
from llm_jepa.preparers.maze import walls_of
from llm_jepa.preparers.path_star import graph_of
from llm_jepa.preparers.program import run
from llm_jepa.scoring.tasks import score_row
from tests.preparers.generated_sets import GENERATED, SIZES, SOLVERS, TASKS
from tests.preparers.prepared_sets import SCRIPTS, SPLITS, read

every_drawn_set = pytest.mark.parametrize("name", SOLVERS)


def rows_of(prepared, name):
    output, _ = prepared(name)
    return [row for split in SPLITS for row in read(output, split)]


def solved(name, row, answer):
    return score_row(TASKS[name], answer, row["target"], True, source=row["source"]).values["solved"]


@every_drawn_set
def test_golds_and_the_answers_of_a_solver_are_all_right(name, prepared):
    rows = rows_of(prepared, name)
    assert all(solved(name, row, row["target"]) for row in rows)
    answers = [SOLVERS[name](row["source"]) for row in rows]
    assert all(solved(name, row, answer) for row, answer in zip(rows, answers, strict=True))
    if name != "path_star":  # an arm is the only path
        assert any(row["target"] != answer for row, answer in zip(rows, answers, strict=True))


@every_drawn_set
def test_the_answer_of_another_row_is_wrong(name, prepared):
    rows = {row["source"]: row for row in rows_of(prepared, name)}
    (first, *others) = rows.values()
    wrong = [row for row in others if not solved(name, first, row["target"])]
    assert len(wrong) >= 0.9 * len(others)


def test_who_reverses_the_facts_answers_every_question(prepared):
    output, _ = prepared("reversal_curse")
    train = {row["source"]: row["target"] for row in read(output, "train")}
    teacher_of = {target: source.removesuffix(" teaches") for source, target in train.items()}
    held_out = [*read(output, "validation"), *read(output, "test")]
    assert (len(train), len(held_out)) == (40 + 20, 20)
    for row in held_out:
        answer = teacher_of[row["source"].removesuffix(" is taught by")]
        assert score_row("qa", answer, row["target"], True).values["qa_match"]
    assert len({row["target"] for row in held_out}) == 20, "no fact is asked twice"


def test_a_path_star_has_arms_of_one_length_that_share_the_start_alone(prepared):
    for row in rows_of(prepared, "path_star"):
        *edges, ends = row["source"].removesuffix(" =").split(" | ")
        pairs = [edge.split() for edge in edges]
        start, goal = ends.split()
        assert len({name for pair in pairs for name in pair}) == 1 + 3 * 3
        assert [first for first, _ in pairs].count(start) == 3
        assert (row["target"].split()[0], row["target"].split()[-1]) == (start, goal)
        assert len(row["target"].split()) == 4


@every_drawn_set
def test_each_split_has_as_many_different_rows_as_asked_for(name, prepared):
    output, _ = prepared(name)
    assert [len({row["source"] for row in read(output, split)}) for split in SPLITS] == [60, 8, 12]


def prepare_again(name, directory, *options):
    run(SCRIPTS[name].DATA_SET, ["--output_dir", str(directory), *GENERATED[name](directory), *options])
    return directory


@every_drawn_set
def test_the_rows_to_train_on_share_no_key_with_another_seeds_rows_to_test_on(name, prepared, tmp_path):
    """And the test rows stay when more training rows are asked for."""
    output, _ = prepared(name)
    more = prepare_again(name, tmp_path / "more", "--num_train", "300")
    assert read(more, "test") == read(output, "test")
    assert read(more, "train")[:60] == read(output, "train")
    other = prepare_again(name, tmp_path / "other", "--seed", "1", "--num_test", "40")
    key_of = SCRIPTS[name].DATA_SET.overlap
    trained, tested = ({str(key_of(row)) for row in rows} for rows in (read(more, "train"), read(other, "test")))
    assert len(tested) == 40
    assert not trained & tested


def test_keys_are_the_same_however_a_puzzle_is_written():
    assert graph_of({"source": "4 7 | 4 0 | 4 7 ="}) == graph_of({"source": "4 0 | 4 7 | 4 0 ="}) == "4 0 | 4 7"
    assert puzzle_of({"source": "7 25 3 | 54 ="}) == puzzle_of({"source": "3 7 25 | 54 ="}) == (54, 3, 7, 25)
    assert walls_of({"source": "S . / G # ="}) == walls_of({"source": ". G / S # ="}) == ". . / . # ="


CHECKSUMS = {
    "path_star": "a3caa3a1a59f3f9f",
    "countdown": "d38b8ae8f749fd8e",
    "maze": "12b16022efa0f834",
    "reversal_curse": "381f4739448ba010",
}


@pytest.mark.parametrize("name", GENERATED)
def test_seed_0_stays_what_it_is(name, prepared):
    """Results measured on a seed's rows hold only as long as the seed gives these rows."""
    output, _ = prepared(name)
    rows = b"".join((output / f"{split}.jsonl").read_bytes() for split in SPLITS)
    assert hashlib.sha256(rows).hexdigest()[:16] == CHECKSUMS[name]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("path_star", ["--num_names", "3"], "num_names 3 at least the 7 nodes"),
        ("path_star", ["--degree", "1"], "degree 1 and length 4 must be at least 2"),
        ("countdown", ["--num_numbers", "1"], "num_numbers 1 and max_number 50 must be at least 2"),
        ("maze", ["--size", "2", "--num_loops", "2"], r"num_loops 2 from 0 to \(size - 1\)\^2, which is 1"),
        ("maze", ["--size", "2", *SIZES], "num_test is 12, but after . rows 5000 draws gave no other one"),
        ("path_star", ["--num_train", "0"], "num_train 0 must be at least 1"),
        ("reversal_curse", ["--both_ways_share", "1"], "both_ways_share 1.0 from 0 to below 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(name, options, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(SCRIPTS[name].DATA_SET, ["--output_dir", str(tmp_path / "out"), *options])
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
