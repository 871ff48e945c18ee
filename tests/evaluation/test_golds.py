"""Bad golds are found before a model is loaded: all of them end the evaluation, some are left out and told."""

import logging
import sqlite3

import pytest

from llm_jepa.evaluation import golds as golds_module
from llm_jepa.evaluation.golds import check_golds
from llm_jepa.evaluation.held_out_rows import HeldOutRow
from llm_jepa.scoring.sql_execution import QueryLimits, gold_query_problems

NO_DATABASE, NOT_RUN = "there is no database", "the gold query does not run"


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("sql") / "pets.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE pet (name TEXT)")
        connection.executemany("INSERT INTO pet VALUES (?)", [("Rex",), ("Ada",)])
    connection.close()
    return path


def rows_of(golds, databases=None) -> list[HeldOutRow]:
    databases = databases or [None] * len(golds)
    pairs = enumerate(zip(golds, databases, strict=True))
    return [HeldOutRow(10 + i, i, "", {}, "", gold, database) for i, (gold, database) in pairs]


def reasons(problems) -> list[str | None]:
    return [None if one is None else one.reason for one in problems]


def test_golds_are_read_as_scoring_reads_them():
    fenced = rows_of(["```\na\n```", "```\na(\n```", "b"])
    assert reasons(check_golds("regex", fenced, "fence")) == [None, "the gold regex cannot be read", None]


def test_a_bad_gold_is_left_out_and_told(caplog):
    with caplog.at_level(logging.INFO, logger="llm_jepa.evaluation.golds"):
        found = check_golds("regex", rows_of(["a", "a(", "b"]))
    assert reasons(found) == [None, "the gold regex cannot be read", None]
    assert "Row 11 is left out of equivalent, equivalent_nontrivial: The gold 'a(' cannot be read" in caplog.text
    expected = "Left out of equivalent, equivalent_nontrivial: 1 of 3 rows: the gold regex cannot be read (1)."
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [expected]


def test_golds_that_are_all_bad_end_the_evaluation():
    with pytest.raises(ValueError, match="`task: math` can score by no gold: 2 of 2 rows") as refused:
        check_golds("math", rows_of(["one", "two"]))
    assert ": the gold has no number (2). Row 10: Gold 'one' has no number to compare with" in str(refused.value)


def test_a_wrong_database_path_ends_the_evaluation(tmp_path):
    absent = [tmp_path / "absent.sqlite"] * 2
    with pytest.raises(ValueError, match=r"2 of 2 rows: there is no database \(2\). Row 10: There is no database"):
        check_golds("sql", rows_of(["SELECT 1", "SELECT 2"], absent))


def test_every_gold_query_is_run_on_its_rows_database(database, tmp_path):
    golds = ["SELECT name FROM pet", "SELECT nothing FROM pet", "SELECT 1", "SELECT name FROM pet ORDER BY name"]
    databases = [database, database, tmp_path / "absent.sqlite", database]
    assert reasons(check_golds("sql", rows_of(golds, databases))) == [None, NOT_RUN, NO_DATABASE, None]


def test_a_query_that_ends_its_process_takes_no_other_gold_with_it(database):
    """SQLite cannot be interrupted while it compiles 2 ** 39 subqueries, so the process is killed."""
    doubled = ", ".join(f"c{i} AS (SELECT 1 FROM c{i - 1} a, c{i - 1} b)" for i in range(1, 40))
    stuck = f"WITH c0 AS (SELECT 1), {doubled} SELECT 1 FROM c39"
    found = gold_query_problems(["SELECT 1", stuck, "SELECT 2"], database, limits=QueryLimits(max_seconds=0.5))
    assert reasons(found) == [None, NOT_RUN, None]


def test_a_gold_that_gives_another_result_each_time_is_found(database):
    found = gold_query_problems(["SELECT random()", "SELECT 1"], database)
    assert reasons(found) == ["two runs of the gold query differ", None]


def test_golds_that_are_not_checked_in_time_are_judged_when_scored(database, caplog, monkeypatch):
    monkeypatch.setattr(golds_module, "MAX_CHECK_SECONDS", -1.0)
    with caplog.at_level(logging.WARNING, logger="llm_jepa.evaluation.golds"):
        assert check_golds("sql", rows_of(["SELECT nothing"], [database])) == [None]
    assert "were not all checked" in caplog.text
