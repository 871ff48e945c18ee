import hashlib
import sqlite3
import sys
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.scoring import sql_execution
from llm_jepa.scoring.sql_execution import QueryLimits, ResultComparison, is_ordered, same_result

SINGERS = [(1, "Ann", 30, 1.5), (2, "Bob", 40, None), (3, "Cid", 30, 2.0), (4, "Ann", 30, 1.5)]
SMALL = QueryLimits(max_seconds=5, max_steps=1_000_000, max_rows=1000, max_result_bytes=1_000_000)


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    """A table of singers and one of a thousand numbers, in a file whose name means something in a URI."""
    path = tmp_path_factory.mktemp("sql") / "a b?mode=rwc#%41'.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE singer (id INTEGER, name TEXT, age INTEGER, score REAL)")
    connection.executemany("INSERT INTO singer VALUES (?, ?, ?, ?)", SINGERS)
    connection.execute("CREATE TABLE number (n INTEGER)")
    connection.executemany("INSERT INTO number VALUES (?)", [(n,) for n in range(1000)])
    connection.execute("CREATE TABLE latin (name TEXT)")
    connection.execute("INSERT INTO latin VALUES (CAST(x'4AE9' AS TEXT)), (CAST(x'4AE8' AS TEXT))")
    connection.commit()
    connection.close()
    return path


@pytest.mark.parametrize(
    ("predicted", "gold", "outcome"),
    [
        ("SELECT name FROM singer", "SELECT name FROM singer", "equal"),
        ("SELECT name FROM singer ORDER BY id DESC;", "SELECT name FROM singer", "equal"),
        ("SELECT name FROM singer ORDER BY id DESC", "SELECT name FROM singer ORDER BY id", "different"),
        ("SELECT name FROM singer", "SELECT name FROM singer ORDER BY id DESC", "different"),
        ("SELECT DISTINCT name FROM singer", "SELECT name FROM singer", "different"),  # a multiset, no set
        ("SELECT name AS x, id y FROM singer", "SELECT name, id FROM singer", "equal"),  # names do not count
        ("SELECT id, name FROM singer", "SELECT name, id FROM singer", "equal"),
        ("SELECT id, name FROM singer ORDER BY id", "SELECT name, id FROM singer ORDER BY id", "equal"),
        ("SELECT name, id, id FROM singer", "SELECT name, id FROM singer", "different"),
        ("SELECT 1, 2 UNION ALL SELECT 4, 3", "SELECT 1, 2 UNION ALL SELECT 3, 4", "different"),  # one order for all
        ("SELECT 3, 4 UNION ALL SELECT 1, 2", "SELECT 2, 1 UNION ALL SELECT 4, 3", "equal"),
        ("SELECT id FROM singer WHERE 0", "SELECT name FROM singer WHERE 0", "equal"),
        ("SELECT id, name FROM singer WHERE 0", "SELECT name FROM singer WHERE 0", "different"),
        ("SELECT id FROM singer WHERE 0", "SELECT count(*) FROM singer WHERE 0", "different"),
        ("SELECT NULL", "SELECT NULL", "equal"),
        ("SELECT NULL", "SELECT 0", "different"),
        ("SELECT ''", "SELECT NULL", "different"),
        ("SELECT 1.0", "SELECT 1", "equal"),
        ("SELECT '1'", "SELECT 1", "different"),
        ("SELECT x'61'", "SELECT 'a'", "different"),
        ("SELECT 'A'", "SELECT 'a'", "different"),
        ("SELECT 0.1 + 0.2", "SELECT 0.3", "equal"),
        ("SELECT 0.3001", "SELECT 0.3", "different"),
        ("SELECT 0.0000000001", "SELECT 0", "equal"),
        ("SELECT 1000000000000001", "SELECT 1000000000000000", "different"),
        ("SELECT julianday('2026-11-23 10:00:01')", "SELECT julianday('2026-11-23 10:00:00')", "different"),
        ("SELECT 9e999", "SELECT 9e999", "equal"),
        (
            "SELECT 0.3, 'a' UNION ALL SELECT 0.1 + 0.2, 'b'",
            "SELECT 0.1 + 0.2, 'a' UNION ALL SELECT 0.3, 'b'",
            "equal",
        ),
        ("SELECT sum(age) / 4.0 FROM singer", "SELECT avg(age) FROM singer", "equal"),
        ("VALUES (1)", "SELECT 1", "equal"),
        ("WITH a AS (SELECT 1 AS n) SELECT n FROM a", "SELECT 1", "equal"),
        ("/* one; */ SELECT ';' -- DROP TABLE singer;", "SELECT ';'", "equal"),
    ],
)
def test_results_compared_by_hand(database, predicted, gold, outcome):
    comparison = same_result(predicted, gold, database)
    assert comparison == ResultComparison(outcome)
    assert bool(comparison) == (outcome == "equal")


def test_text_that_is_no_utf_8_is_compared_byte_for_byte(database):
    query = "SELECT name FROM latin LIMIT 1"
    assert same_result(query, query, database)
    assert not same_result(f"{query} OFFSET 1", query, database)


@pytest.mark.parametrize(
    ("sql", "ordered"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("select a from t order /* ( */ by a limit 1", True),
        ("SELECT a FROM t UNION SELECT b FROM u ORDER\n-- (\nBY a", True),
        ("WITH q AS (SELECT a FROM t) SELECT a FROM q ORDER BY (a)", True),
        ("SELECT '(', [(], \"(\", `(` FROM t ORDER BY a", True),
        ("SELECT 'it''s (' FROM t ORDER BY a", True),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", False),
        ("WITH q AS (SELECT a FROM t ORDER BY a) SELECT a FROM q", False),
        ("SELECT rank() OVER (ORDER BY a) FROM t", False),
        ("SELECT ' ORDER BY a' FROM t", False),
        ('SELECT "order" FROM t AS "by"', False),
        ("SELECT a FROM t -- ORDER BY a", False),
        ("SELECT a /* ORDER BY a */ FROM t", False),
        ("SELECT a FROM t GROUP BY a", False),
        ("SELECT reorder, byte FROM t", False),
    ],
)
def test_only_the_outermost_order_by_orders(sql, ordered):
    assert is_ordered(sql) == ordered


@pytest.mark.parametrize(
    "sql", ["SELECT nope FROM singer", "SELECT * FROM nope", "SELEC", "SELECT * FROM", "SELECT ?"]
)
@pytest.mark.parametrize("gold", ["SELECT 1 WHERE 0", "SELECT NULL"])
def test_a_failed_query_never_equals_not_even_an_empty_result(database, sql, gold):
    comparison = same_result(sql, gold, database)
    assert not comparison
    assert comparison.outcome == ("not_select" if sql == "SELEC" else "error")
    assert comparison.detail


@pytest.mark.parametrize("sql", ["SELECT '\0'", "SELECT '\ud800'"])
def test_text_that_sqlite_cannot_read_is_an_error_of_the_query(database, sql):
    assert same_result(sql, "SELECT 1", database).outcome == "error"


@pytest.mark.parametrize(
    "sql",
    [
        "",
        " \n",
        ";",
        "-- SELECT 1",
        "SELECT 1; SELECT 1",
        "SELECT 1; DROP TABLE singer",
        "SELECT 1; -- ;\n; DELETE FROM singer",
        "EXPLAIN SELECT 1",
        "ATTACH 'stolen.sqlite' AS stolen",
        "PRAGMA writable_schema = 1",
        "SELECT * FROM pragma_table_info('singer')",
        "SELECT load_extension('evil')",
        "SELECT Load_Extension('evil', 'main')",
        "DROP TABLE singer",
        "DELETE FROM singer RETURNING 1",
        "/* SELECT */ UPDATE singer SET age = 1 RETURNING 1",
        "INSERT INTO singer VALUES (1, 'x', 1, 1) RETURNING 1",
        "WITH one AS (SELECT 1) DELETE FROM singer RETURNING 1",
        "CREATE TEMP TABLE one AS SELECT 1",
        "VACUUM INTO 'stolen.sqlite'",
        "BEGIN",
    ],
)
def test_all_but_one_select_is_refused_and_leaves_no_trace(database, sql, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = hashlib.sha256(database.read_bytes()).digest()
    comparison = same_result(sql, "SELECT 1", database)
    assert (comparison.outcome, bool(comparison.detail)) == ("not_select", True)
    assert hashlib.sha256(database.read_bytes()).digest() == before
    assert list(tmp_path.iterdir()) == []
    assert list(database.parent.iterdir()) == [database]


ENDLESS = "WITH RECURSIVE up(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up)"


@pytest.mark.parametrize(
    ("sql", "outcome"),
    [
        (f"{ENDLESS} SELECT count(*) FROM up", "timeout"),
        (f"{ENDLESS} SELECT n FROM up", "too_many_rows"),
        ("SELECT count(*) FROM number a, number b, number c", "timeout"),
        ("SELECT a.n FROM number a, number b, number c", "too_many_rows"),
        ("SELECT zeroblob(1e9)", "too_large"),
        ("SELECT randomblob(1e9)", "too_large"),
        ("SELECT length(replace(hex(zeroblob(400000)), '0', 'abcdefghij'))", "too_large"),
        ("SELECT zeroblob(100000) FROM number", "too_large"),
        ("SELECT length(group_concat(hex(zeroblob(5000)))) FROM number", "too_large"),
    ],
)
def test_each_blow_up_meets_its_limit(database, sql, outcome):
    assert same_result(sql, "SELECT 1", database, limits=SMALL).outcome == outcome


DOUBLED = ", ".join(f"c{i} AS (SELECT 1 FROM c{i - 1} a, c{i - 1} b)" for i in range(1, 40))


@pytest.mark.parametrize(
    "sql",
    [
        f"WITH c0 AS (SELECT 1), {DOUBLED} SELECT 1 FROM c39",  # 2 ** 39 subqueries, while it is compiled
        "SELECT hex(zeroblob(400000)) LIKE '%' || hex(zeroblob(20000)) || '1'",  # minutes in one instruction
    ],
)
def test_what_sqlite_cannot_interrupt_is_killed(database, sql):
    """By the clock, or by its memory on a machine quick enough to fill it before."""
    limits = QueryLimits(max_seconds=1)
    assert same_result(sql, "SELECT 1", database, limits=limits).outcome in ("timeout", "too_large")


def test_the_budget_of_steps_ends_a_query_by_itself(database):
    sql = "SELECT count(*) FROM number a, number b"
    assert same_result(sql, "SELECT 1000000", database, limits=QueryLimits(max_steps=20_000_000))
    assert same_result(sql, "SELECT 1", database, limits=QueryLimits(max_steps=1_000_000)).outcome == "timeout"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_memory_is_limited(database):
    sql = "SELECT length(randomblob(200000000))"
    limits = QueryLimits(max_result_bytes=2**28, max_memory_bytes=2**27)
    assert same_result(sql, "SELECT 1", database, limits=limits).outcome == "too_large"


def test_temporary_files_are_limited(database):
    sql = f"{ENDLESS} SELECT n, randomblob(100000) FROM up ORDER BY 2"
    limits = QueryLimits(max_memory_bytes=2**27)
    assert same_result(sql, "SELECT 1", database, limits=limits).outcome == "too_large"


def test_as_many_rows_as_the_limit_are_allowed(database):
    query = "SELECT n FROM number"
    assert same_result(query, query, database, limits=QueryLimits(max_rows=1000))
    limits = QueryLimits(max_rows=999)
    assert same_result(query, "SELECT 1", database, limits=limits).outcome == "too_many_rows"


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        ("SELECT nope FROM singer", "error"),
        ("", "not_select"),
        ("SELECT 1; SELECT 2", "not_select"),
        ("DELETE FROM singer RETURNING 1", "not_select"),
        (f"{ENDLESS} SELECT count(*) FROM up", "timeout"),
        ("SELECT n FROM number, latin", "too_many_rows"),
    ],
)
def test_a_gold_that_fails_is_an_error_whatever_the_prediction(database, gold, reason):
    for predicted in (gold, "SELECT 1"):
        with pytest.raises(ValueError, match=rf"The gold query does not run on .*: {reason} \("):
            same_result(predicted, gold, database, limits=SMALL)


def test_a_file_that_is_missing_or_no_database_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="There is no database"):
        same_result("SELECT 1", "SELECT 1", tmp_path / "none.sqlite")
    (tmp_path / "text.sqlite").write_text("no database " * 100)
    with pytest.raises(ValueError, match="not a database"):
        same_result("SELECT * FROM t", "SELECT * FROM t", tmp_path / "text.sqlite")
    assert not (tmp_path / "none.sqlite").exists()


def test_a_limit_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="`max_rows` is 0"):
        QueryLimits(max_rows=0)


rows = st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=4)


@given(gold=rows, predicted=rows)
def test_columns_match_if_one_of_all_their_orders_does(gold, predicted):
    """The slow reference tries every order."""
    predicted = [*predicted, *gold][: len(gold)]
    wanted = sorted(gold)
    expected = any(
        sorted(tuple(row[i] for i in order) for row in predicted) == wanted for order in permutations(range(3))
    )
    outcome = sql_execution._match_columns(list(zip(*gold, strict=True)), list(zip(*predicted, strict=True)))
    assert outcome == ("equal" if expected else "different")


@given(gold=rows, order=st.permutations(range(3)), data=st.data())
def test_any_order_of_rows_and_columns_is_found(gold, order, data):
    predicted = [tuple(row[i] for i in order) for row in data.draw(st.permutations(gold))]
    assert sql_execution._match_columns(list(zip(*gold, strict=True)), list(zip(*predicted, strict=True))) == "equal"


def test_orders_of_equal_columns_are_tried_once():
    """Twelve constant columns have 12! orders, all alike."""
    constant = [(0, 0)] * 12
    gold, predicted = [*constant, (0, 1), (0, 1)], [*constant, (0, 1), (1, 0)]
    assert sql_execution._match_columns(gold, predicted) == "different"


def test_too_many_orders_of_columns_are_undecided(monkeypatch):
    """Rows of one 1 among 0s: all columns look alike, and only the last shows that no order will do."""
    columns = [tuple(int(row == column) for row in range(8)) for column in range(8)]
    broken = [*columns[:-1], columns[-2]]
    assert sql_execution._match_columns(columns, broken) == "different"
    monkeypatch.setattr(sql_execution, "MAX_ROW_VISITS", 1000)
    assert sql_execution._match_columns(columns, broken) == "undecided"
    assert sql_execution._match_columns(columns, columns) == "equal"
