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

Outcome = Literal["equal", "different", "undecided", "error", "not_select", "timeout", "too_many_rows", "too_large"]
Row = tuple[Any, ...]

# Sums taken in another order differ by less; neighbouring times written as Julian days differ by more.
RELATIVE_TOLERANCE = 1e-12
ABSOLUTE_TOLERANCE = 1e-9
# Some five seconds of looking for the order of columns, for a result made to need them.
MAX_ROW_VISITS = 5_000_000

_TOKENS = re.compile(
    r"""(?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
    | '(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\]
    | \w+ | \S""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class QueryLimits:
    """What one query may use. `max_steps` are instructions of SQLite's virtual machine: the same on each machine.

    `max_memory_bytes` holds for the address space of the process and for each of its temporary files.
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
    """What became of a predicted query; true in a condition only if it is "equal".

    - "equal", "different": it ran, and its result is the gold's or not.
    - "undecided": it ran, but there are too many orders of its columns to try them all.
    - "error": SQLite could not run it.
    - "not_select": it is empty, several statements, no SELECT, or does anything but read.
    - "timeout", "too_many_rows", "too_large": it met a limit.
    """

    outcome: Outcome
    detail: str = ""

    def __bool__(self) -> bool:
        return self.outcome == "equal"


def same_result(
    predicted_sql: str, gold_sql: str, database_path: str | Path, *, limits: QueryLimits | None = None
) -> ResultComparison:
    """Run both queries on a database and compare what they return.

    Rows are compared as a multiset, or as a list where the outermost SELECT of the gold has an ORDER BY (rows that
    tie must then come in the gold's order too). As in Spider's test suite, columns may stand in any one order, the
    same for all rows, and their names do not count. Differently from it, DISTINCT counts, an ORDER BY in a subquery
    does not make the result ordered, and empty results are equal only if they have as many columns.

    NULL equals NULL. Numbers are equal, integer or not, if they differ by at most 1e-9 or a relative 1e-12; so are
    those linked by a chain of such neighbours, but never two different integers next to each other. Text equals text
    of the same bytes, case included; text, blob and number are never equal to each other.

    Each call starts one process (about 40 ms), which opens the file read-only and immutable: it is never written, and
    what stands in a write-ahead log beside it is not seen. Only reading is authorised.

    Raises:
        ValueError: There is no such file, or the gold itself does not run within the limits.
    """
    limits = limits or QueryLimits()
    path = Path(database_path)
    if not path.is_file():
        raise ValueError(f"There is no database {str(path)!r}. Give the path of a SQLite file.")
    gold, predicted = _run_queries([gold_sql, predicted_sql], path, limits)
    if isinstance(gold, ResultComparison):
        raise ValueError(
            f"The gold query does not run on {str(path)!r}: {gold.outcome} ({gold.detail}): {gold_sql!r}. "
            "Mend the data, or raise the limits."
        )
    if isinstance(predicted, ResultComparison):
        return predicted
    return ResultComparison(_compare(gold, predicted, is_ordered(gold_sql)))


def is_ordered(sql: str) -> bool:
    """Whether the outermost SELECT has an ORDER BY: the two words outside all parentheses, quotes and comments."""
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
    """Words in upper case, quoted texts, and single other characters; no comments."""
    return (match[0].upper() for match in _TOKENS.finditer(sql) if not match["comment"])


def _is_single_select(sql: str) -> bool:
    tokens = list(_tokens(sql))
    return bool(tokens) and tokens[0] in ("SELECT", "WITH", "VALUES") and ";" not in tokens[:-1]


def _run_queries(queries: Sequence[str], path: Path, limits: QueryLimits) -> list[_Result | ResultComparison]:
    """Run the queries one after the other; of one that fails, why it does."""
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
    """The next answer of the worker, or `failure` where it was stopped before it could give one."""
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
    """Replace each number by the smallest of its chain of close neighbours, so that `==` has the tolerance.

    Unlike a comparison of two rows with a tolerance, this is an equivalence, which multisets need.
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

    Depth first: a predicted column may stand at the next place if the rows, cut off after it, still agree.
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
