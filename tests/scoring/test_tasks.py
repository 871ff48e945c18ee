"""The scores of a task, row by row; a scorer that fails counts the row as wrong and says why."""

import sqlite3

import pytest

from llm_jepa.scoring.tasks import TASKS, Rate, RowScores, rates, score_names, score_row


def test_every_task_has_the_five_exact_scores_side_by_side():
    for task in TASKS:
        assert score_names(task)[:5] == ("strict", "prefix", "contains", "stopped", "capped")
        assert tuple(score_row(task, "a", "b", True).values) == score_names(task)


@pytest.mark.parametrize(
    ("task", "prediction", "gold", "own"),
    [
        ("text", "a", "a", []),
        ("regex", "(a|b)*", "(b|a)*", [True, True]),
        ("regex", "a", "b", [False, False]),
        ("regex", " a\n", "a", [True, True]),
        ("regex", "(a)&(b)", "(c)&(d)", [True, None]),
        ("math", "so it is 18", "9 * 2 = 18\n#### 18", [False, True]),
        ("math", "#### 18.0", "#### 18", [True, True]),
        ("qa", "The Beatles!", "Rolling Stones; beatles", [True]),
        ("qa", "", "beatles", [False]),
    ],
)
def test_the_scores_of_a_row(task, prediction, gold, own):
    scores = score_row(task, prediction, gold, stopped=True)
    assert list(scores.values.values())[5:] == own
    assert scores.problem is None


def test_sql_is_executed_on_the_rows_database(tmp_path):
    path = tmp_path / "pets.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE pet (name TEXT)")
        database.execute("INSERT INTO pet VALUES ('Rex')")
    right = score_row("sql", "SELECT name AS n FROM pet", "SELECT name FROM pet", True, path)
    assert right.values["sql_result"] is True
    failed = score_row("sql", "SELECT nothing FROM pet", "SELECT name FROM pet", True, path)
    assert failed.values["sql_result"] is False
    assert failed.problem.startswith("error: ")
    assert score_row("sql", "SELECT 1", "SELECT 1", True).problem == "the row names no database."


@pytest.mark.parametrize(
    ("task", "prediction", "gold", "problem"),
    [("regex", "a(", "a", "the prediction cannot be read"), ("regex", "a", "a(", ""), ("qa", "x", "the", "")],
)
def test_a_scorer_that_cannot_tell_counts_the_row_as_wrong_and_says_why(task, prediction, gold, problem):
    scores = score_row(task, prediction, gold, stopped=True)
    assert not any(list(scores.values.values())[5:])
    assert scores.problem
    assert problem in scores.problem


def test_rates_of_four_rows_counted_by_hand():
    """A row that a score does not count is not among its rows."""
    pairs = [("a", "a", True), ("a b", "a", False), ("the a", "a", True), ("c", "a", True)]
    counted = rates([score_row("text", *pair) for pair in pairs])
    assert counted == {
        "strict": Rate(1, 4), "prefix": Rate(2, 4), "contains": Rate(3, 4), "stopped": Rate(3, 4), "capped": Rate(1, 4)
    }  # fmt: skip
    assert rates([RowScores({"x": None}), RowScores({"x": True})]) == {"x": Rate(1, 1)}


def test_standard_error_is_that_of_a_proportion():
    """p = 0.2 of 100 rows: sqrt(0.2 * 0.8 / 100) = 0.04."""
    rate = Rate(20, 100)
    assert rate.fraction == 0.2
    assert rate.standard_error == pytest.approx(0.04)


def test_no_rows_are_an_error():
    with pytest.raises(ValueError, match="Give at least one"):
        rates([])
