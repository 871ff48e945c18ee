"""The scores of a task, row by row. The prediction's fault is a wrong answer; the gold's fault is not the model's."""

import re
import sqlite3
from pathlib import Path

import pytest

from llm_jepa.scoring.choice import ChoiceLikelihoods
from llm_jepa.scoring.gold import GoldError, GoldProblem
from llm_jepa.scoring.tasks import (
    TASK_SCORES,
    TASKS,
    Rate,
    RowScores,
    check_gold,
    left_out,
    rates,
    score_names,
    score_row,
)


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


def test_any_of_several_golds_of_a_question_is_strictly_right():
    for prediction, right in (
        ("beatles", {"strict", "prefix", "contains", "qa_match", "stopped"}),
        ("the Rolling Stones", {"contains", "qa_match", "stopped"}),
        ("Rolling Stones; beatles", {"prefix", "contains", "stopped"}),
    ):
        values = score_row("qa", prediction, "Rolling Stones; beatles", True).values
        assert {name for name, value in values.items() if value} == right
    assert not score_row("text", "beatles", "Rolling Stones; beatles", True).values["strict"]


def test_the_strict_score_of_what_is_extracted_stands_beside_that_of_the_whole_text():
    prediction = "Here:\n```\n[0-9]\n```"
    scores = score_row("regex", prediction, "[0-9]", True, extract="fence").values
    assert tuple(scores) == score_names("regex", "fence")
    assert "strict_extracted" not in score_names("regex")
    right = {name for name, value in scores.items() if value}
    assert right == {"contains", "stopped", "strict_extracted", "equivalent", "equivalent_nontrivial"}
    as_it_is = score_row("regex", prediction, "[0-9]", True).values
    assert {name for name, value in as_it_is.items() if value} == {"contains", "stopped"}


def test_sql_is_executed_on_the_rows_database(tmp_path):
    path = tmp_path / "pets.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE pet (name TEXT)")
        database.execute("INSERT INTO pet VALUES ('Rex')")
    right = score_row("sql", "SELECT name AS n FROM pet", "SELECT name FROM pet", True, path)
    assert right.values["sql_result"] is True
    fenced = "Here:\n```sql\nSELECT name AS n FROM pet\n```"
    assert score_row("sql", fenced, "SELECT name FROM pet", True, path).values["sql_result"] is False
    for gold in ("SELECT name FROM pet", "```sql\nSELECT name FROM pet\n```"):
        found = score_row("sql", fenced, gold, True, path, extract="fence").values
        assert (found["sql_result"], found["strict"], found["strict_extracted"]) == (True, False, False)
    failed = score_row("sql", "SELECT nothing FROM pet", "SELECT name FROM pet", True, path)
    assert failed.values["sql_result"] is False
    assert failed.problem.startswith("error: ")
    assert failed.gold_problem is None


NAN = ChoiceLikelihoods(["a", "b"], [float("nan"), -1.0], [1, 1])


@pytest.mark.parametrize(
    ("task", "prediction", "gold", "likelihoods", "problem"),
    [
        ("regex", "a(", "a", None, "the prediction cannot be read"),
        ("choice", "a", "a", NAN, "has the log-probability nan"),
    ],
)
def test_a_fault_of_the_prediction_counts_as_wrong_and_is_told(task, prediction, gold, likelihoods, problem):
    scores = score_row(task, prediction, gold, stopped=True, likelihoods=likelihoods)
    assert list(scores.values.values())[5:] == [False, False]
    assert problem in scores.problem
    assert scores.gold_problem is None


BAD_GOLDS = [
    ("regex", "a(", {}, "the gold regex cannot be read"),
    ("math", "no number", {}, "the gold has no number"),
    ("qa", "the; ...", {}, "the gold has no word"),
    ("sql", "SELECT 1", {}, "the row names no database"),
    ("sql", "SELECT 1", {"database": Path("absent.sqlite")}, "there is no database"),
    ("choice", "a", {}, "the row has no choices"),
    ("choice", "c", {"likelihoods": NAN}, "the gold is not one of the choices"),
]


@pytest.mark.parametrize(("task", "gold", "row", "reason"), BAD_GOLDS)
def test_a_fault_of_the_gold_leaves_the_row_out_of_the_tasks_own_scores(task, gold, row, reason):
    """The exact scores need no more than the text, and count it."""
    scores = score_row(task, gold.split("; ")[0] if task == "qa" else gold, gold, True, **row)
    assert [scores.values[name] for name in TASK_SCORES[task]] == [None] * len(TASK_SCORES[task])
    assert scores.values["strict"] is True
    assert (scores.problem, scores.gold_problem.reason) == (None, reason)
    if task != "sql":
        choices = row["likelihoods"].choices if "likelihoods" in row else ()
        with pytest.raises(GoldError, match=re.escape(scores.gold_problem.detail)):
            check_gold(task, gold, choices)


def test_rows_left_out_are_counted_by_reason():
    golds = ["a", "a(", "(b", "b"]
    rows = [score_row("regex", "a", gold, True) for gold in golds]
    assert left_out(rows) == {"the gold regex cannot be read": 2}
    assert rates(rows)["equivalent"] == Rate(1, 2)
    assert rates(rows)["strict"] == Rate(1, 4)


def test_a_gold_whose_problem_is_known_is_not_tried_again():
    """The database is not there, which would be another reason."""
    known = GoldProblem("the gold query does not run", "")
    assert score_row("sql", "", "SELECT 1", True, Path("absent"), gold_problem=known).gold_problem == known


@pytest.mark.parametrize(
    ("task", "source", "gold", "reason"),
    [
        ("path", "", "a b", "the graph cannot be read"),
        ("path", "a b | b a", "a b", "the gold is no solution"),
        ("countdown", "what?", "1", "the numbers cannot be read"),
        ("countdown", "1 2 | 4", "1 + 2", "the gold is no solution"),
        ("maze", "S . /", "R", "the maze cannot be read"),
        ("maze", "S G", "L", "the gold is no solution"),
    ],
)
def test_a_puzzle_that_its_gold_does_not_solve_is_left_out(task, source, gold, reason):
    scores = score_row(task, gold, gold, True, source=source)
    assert (scores.values["solved"], scores.gold_problem.reason) == (None, reason)
    with pytest.raises(GoldError, match=re.escape(scores.gold_problem.detail)):
        check_gold(task, gold, source=source)


@pytest.mark.parametrize(
    ("task", "gold", "choices"),
    [("text", "", ()), ("regex", " a|b\n", ()), ("math", "1 + 1 = 2\n#### 2", ()), ("math", "$1,000.", ()),
     ("qa", "the; beatles", ()), ("choice", "a", ("a", "b"))],
)  # fmt: skip
def test_a_right_gold_passes(task, gold, choices):
    check_gold(task, gold, choices)


def test_rates_of_four_rows_counted_by_hand():
    """A row that a score does not count is not among its rows."""
    pairs = [("a", "a", True), ("a b", "a", False), ("the a", "a", True), ("c", "a", True)]
    counted = rates([score_row("text", *pair) for pair in pairs])
    assert counted == {
        "strict": Rate(1, 4), "prefix": Rate(2, 4), "contains": Rate(3, 4), "stopped": Rate(3, 4), "capped": Rate(1, 4)
    }  # fmt: skip
    assert rates([RowScores({"x": None}), RowScores({"x": True})]) == {"x": Rate(1, 1)}


def test_nothing_right_is_no_certainty():
    """Wilson's bounds of 0 of 100: 0 and z^2 / (100 + z^2), z = 1.96."""
    assert Rate(0, 100).interval == pytest.approx((0, 0.0370), abs=1e-4)
    assert Rate(0, 0).interval is None


def test_no_rows_are_an_error():
    with pytest.raises(ValueError, match="Give at least one"):
        rates([])
