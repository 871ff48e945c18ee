"""Whether two SQL queries give the same result on a SQLite database: execution match, after Spider's test suite."""

import marshal
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from math import isclose
from pathlib import Path
from typing import Any, Literal

from llm_jepa.scoring.gold import GoldError, GoldProblem

Outcome = Literal["equal", "different", "undecided", "error", "not_select", "timeout", "too_many_rows", "too_large"]
Row = tuple[Any, ...]

# Sums taken in another order differ by less; neighbouring times written as Julian days differ by more.
RELATIVE_TOLERANCE = 1e-12
ABSOLUTE_TOLERANCE = 1e-9
GOLDS_PER_PROCESS = 16
# About five seconds of search for an order of columns, in the worst case.
MAX_ROW_VISITS = 5_000_000

_TOKENS = re.compile(
    r"""(?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
    | '(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\]
    | \w+ | \S""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class QueryLimits:
    """Limits of one query.

    `max_steps` counts instructions of SQLite's virtual machine, which do not depend on the computer.
    `max_memory_bytes` limits the address space of the process and each of its temporary files.
    """

    max_seconds: float = 10.0
    max_steps: int = 100_000_000
    max_rows: int = 100_000
    max_result_bytes: int = 64 * 2**20
    max_memory_bytes: int = 512 * 2**20

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0:
                raise ValueError(f"`{name}` is {value}; it must be above 0.")


@dataclass(frozen=True)
class ResultComparison:
    """The outcome of a predicted query; true in a condition only if "equal".

    - "equal", "different": it ran, and its result equals the gold's or not.
    - "undecided": it ran, but its columns have too many orders to try them all.
    - "error": SQLite could not run it.
    - "not_select": it is empty, has several statements, is no SELECT, or does more than read.
    - "timeout", "too_many_rows", "too_large": it reached a limit.
    """

    outcome: Outcome
    detail: str = ""

    def __bool__(self) -> bool:
        return self.outcome == "equal"


def same_result(
    predicted_sql: str, gold_sql: str, database_path: str | Path, *, limits: QueryLimits | None = None
) -> ResultComparison:
    """Run both queries on a database and compare their results.

    Rows are compared as a multiset, or as a list if the outermost SELECT of the gold has an ORDER BY (tied rows must
    then also be in the gold's order). As in Spider's test suite, columns may have any order, the same for all rows,
    and their names do not count. Unlike there, DISTINCT counts, an ORDER BY in a subquery does not make the result
    ordered, and empty results are equal only with equal numbers of columns.

    NULL equals NULL. Numbers, integer or not, are equal if they differ by at most 1e-9 or a relative 1e-12, or if a
    chain of such neighbours links them; two different neighbouring integers are never equal. Texts are equal if their
    bytes are, case included. A text, a blob and a number never equal each other.

    Each call starts one process (about 40 ms), which opens the file read-only and immutable: it is never written, and
    the content of a write-ahead log is not seen. Only reading is authorised.

    Raises:
        GoldError: The file does not exist, or the gold does not run within the limits.
    """
    path = Path(database_path)
    _check_database(path)
    gold, predicted = _run_queries([gold_sql, predicted_sql], path, limits or QueryLimits())
    return _comparison(gold, predicted, gold_sql, path)


def gold_query_problems(
    golds: Sequence[str], database_path: str | Path, *, limits: QueryLimits | None = None
) -> list[GoldProblem | None]:
    """What is wrong with each gold query on a database; None if two runs of it give the same result.

    Golds share a process. Those that fail in it are run again in one of their own, since a query that ends the process
    takes the others with it.
    """
    path = Path(database_path)
    try:
        _check_database(path)
    except GoldError as error:
        return [error.problem] * len(golds)
    limits = limits or QueryLimits()
    problems: list[GoldProblem | None] = []
    for start in range(0, len(golds), GOLDS_PER_PROCESS):
        some = golds[start : start + GOLDS_PER_PROCESS]
        results = _run_queries([query for gold in some for query in (gold, gold)], path, limits)
        problems += (
            _problem_of(gold, first, second, path, limits)
            for gold, first, second in zip(some, results[::2], results[1::2], strict=True)
        )
    return problems


def _problem_of(
    gold: str,
    first: "_Result | ResultComparison",
    second: "_Result | ResultComparison",
    path: Path,
    limits: QueryLimits,
) -> GoldProblem | None:
    """The problem of a gold that was run twice; where it failed, by a process of its own."""
    try:
        if isinstance(first, ResultComparison) or isinstance(second, ResultComparison):
            comparison = same_result(gold, gold, path, limits=limits)
        else:
            comparison = _comparison(first, second, gold, path)
    except GoldError as error:
        return error.problem
    if comparison:
        return None
    detail = f"Two runs of the gold query on {str(path)!r} are {comparison.outcome}: {gold!r}. Correct the data."
    return GoldProblem("two runs of the gold query differ", detail)


def _check_database(path: Path) -> None:
    if not path.is_file():
        detail = f"There is no database {str(path)!r}. Give the path of a SQLite file."
        raise GoldError("there is no database", detail)


def _comparison(
    gold: "_Result | ResultComparison", predicted: "_Result | ResultComparison", gold_sql: str, path: Path
) -> ResultComparison:
    if isinstance(gold, ResultComparison):
        raise GoldError(
            "the gold query does not run",
            f"The gold query does not run on {str(path)!r}: {gold.outcome} ({gold.detail}): {gold_sql!r}. "
            "Correct the data, or raise the limits.",
        )
    if isinstance(predicted, ResultComparison):
        return predicted
    return ResultComparison(_compare(gold, predicted, is_ordered(gold_sql)))


def is_ordered(sql: str) -> bool:
    """Whether the outermost SELECT has an ORDER BY, outside of all parentheses, quotes and comments."""
    depth = 0
    previous = ""
    for token in _tokens(sql):
        depth += (token == "(") - (token == ")")
        if depth == 0 and (previous, token) == ("ORDER", "BY"):
            return True
        previous = token
    return False


@dataclass(frozen=True)
class _Result:
    num_columns: int
    rows: list[Row]


def _tokens(sql: str) -> Iterator[str]:
    """Words in upper case, quoted texts, and other single characters; comments are skipped."""
    return (match[0].upper() for match in _TOKENS.finditer(sql) if not match["comment"])


def _is_single_select(sql: str) -> bool:
    tokens = list(_tokens(sql))
    return bool(tokens) and tokens[0] in ("SELECT", "WITH", "VALUES") and ";" not in tokens[:-1]


def _run_queries(queries: Sequence[str], path: Path, limits: QueryLimits) -> list[_Result | ResultComparison]:
    """Run the queries in turn; a failed one gives the outcome of its failure."""
    request = {"uri": f"{path.resolve().as_uri()}?mode=ro&immutable=1", "queries": list(queries), **asdict(limits)}
    worker = Path(__file__).with_name("sql_worker.py")
    process = subprocess.run(
        [sys.executable, "-I", "-S", str(worker)], input=marshal.dumps(request), capture_output=True
    )
    if process.returncode == -signal.SIGALRM:
        failure = ResultComparison("timeout", f"more than {limits.max_seconds} seconds")
    else:
        failure = ResultComparison("error", f"process ended with {process.returncode}: {process.stderr[-500:]!r}")
    answers = BytesIO(process.stdout)
    return [_read_answer(sql, answers, failure) for sql in queries]


def _read_answer(sql: str, answers: BytesIO, failure: ResultComparison) -> _Result | ResultComparison:
    """The worker's next answer, or `failure` if it was stopped before that."""
    try:
        outcome, detail, num_columns, rows = marshal.load(answers)
    except EOFError:
        return failure
    if not _is_single_select(sql):
        return ResultComparison("not_select", detail or "not one SELECT")
    return _Result(num_columns, rows) if outcome == "ran" else ResultComparison(outcome, detail)


def _compare(gold: _Result, predicted: _Result, ordered: bool) -> Outcome:
    if gold.num_columns != predicted.num_columns or len(gold.rows) != len(predicted.rows):
        return "different"
    if not gold.rows:
        return "equal"
    gold_rows, predicted_rows = _with_close_numbers_merged(gold.rows, predicted.rows)
    gold_columns, predicted_columns = list(zip(*gold_rows, strict=True)), list(zip(*predicted_rows, strict=True))
    if ordered:
        return "equal" if Counter(gold_columns) == Counter(predicted_columns) else "different"
    return _match_columns(gold_columns, predicted_columns)


def _with_close_numbers_merged(*results: list[Row]) -> list[list[Row]]:
    """Replace each number by the smallest of its chain of close neighbours, so that `==` has a tolerance.

    This is an equivalence, which multisets need; a pairwise tolerance is not.
    """
    numbers = {value for rows in results for row in rows for value in row if isinstance(value, int | float)}
    merged: dict[Any, Any] = {}
    previous: int | float | None = None
    for number in sorted(numbers):
        linked = previous is not None and _are_close(previous, number)
        merged[number] = merged[previous] if linked else number
        previous = number

    def canonical(value: Any) -> Any:
        return merged[value] if isinstance(value, int | float) else value

    return [[tuple(map(canonical, row)) for row in rows] for rows in results]


def _are_close(a: int | float, b: int | float) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return isclose(a, b, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)


def _match_columns(gold: list[Row], predicted: list[Row]) -> Outcome:
    """Whether some order of the predicted columns makes the two multisets of rows equal.

    Depth first: a predicted column may take the next place if the rows up to it still agree.
    """
    num_rows, num_columns = len(gold[0]), len(gold)
    gold_counts, predicted_counts = ([Counter(column) for column in side] for side in (gold, predicted))
    gold_prefixes = [Counter(zip(*gold[: place + 1], strict=True)) for place in range(num_columns)]
    visits_left = MAX_ROW_VISITS

    def extend(chosen: list[int]) -> bool:
        nonlocal visits_left
        place = len(chosen)
        if place == num_columns:
            return True
        tried: set[Row] = set()
        for column in sorted(range(num_columns), key=lambda column: column != place):  # its own place first
            is_new = column not in chosen and predicted[column] not in tried
            if not is_new or predicted_counts[column] != gold_counts[place]:
                continue
            tried.add(predicted[column])
            visits_left -= num_rows
            if visits_left < 0:
                return False
            order = [*chosen, column]
            prefix = Counter(zip(*(predicted[i] for i in order), strict=True))
            if prefix == gold_prefixes[place] and extend(order):
                return True
        return False

    if extend([]):
        return "equal"
    return "different" if visits_left >= 0 else "undecided"
