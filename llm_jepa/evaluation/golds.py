"""Checks the golds of held-out rows before any model is loaded."""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from llm_jepa.evaluation.held_out_rows import HeldOutRow
from llm_jepa.scoring.extraction import Extract, extracted
from llm_jepa.scoring.gold import GoldError, GoldProblem
from llm_jepa.scoring.sql_execution import GOLDS_PER_PROCESS, gold_query_problems
from llm_jepa.scoring.tasks import TASK_SCORES, Task, check_gold

MAX_CHECK_SECONDS = 120.0
"""Time after which no more gold queries are run. Those that are left are judged when their rows are scored."""

logger = logging.getLogger(__name__)


def check_golds(task: Task, rows: Sequence[HeldOutRow], extract: Extract = "none") -> list[GoldProblem | None]:
    """What is wrong with the gold of each row; None if the task's own scores can score by it. Logs a summary.

    Golds are read as scoring reads them, with `extract`.

    Raises:
        ValueError: There is something wrong with every gold: the data or the settings are wrong, not a row.
    """
    rows = [replace(row, gold=extracted(row.gold, extract)) for row in rows]
    problems = _query_problems(rows) if task == "sql" else [_problem_of(task, row) for row in rows]
    refuse_if_none_is_left(task, rows, problems)
    found = [(row, problem) for row, problem in zip(rows, problems, strict=True) if problem is not None]
    for row, problem in found:
        logger.info("Row %d is left out of %s: %s", row.row_index, _names(task), problem.detail)
    if found:
        logger.warning("Left out of %s: %s.", _names(task), in_words([problem for _, problem in found], len(rows)))
    return problems


def refuse_if_none_is_left(task: Task, rows: Sequence[HeldOutRow], problems: Sequence[GoldProblem | None]) -> None:
    """Raise ValueError if every gold has a problem."""
    found = [problem for problem in problems if problem is not None]
    if rows and len(found) == len(rows):
        raise ValueError(
            f"`task: {task}` can score by no gold: {in_words(found, len(rows))}. Row {rows[0].row_index}: "
            f"{found[0].detail}"
        )


def in_words(problems: Sequence[GoldProblem], num_rows: int) -> str:
    """How many of the rows have a problem with their gold, and which: "3 of 100 rows: there is no database (3)"."""
    counts = Counter(problem.reason for problem in problems).most_common()
    return f"{len(problems)} of {num_rows} rows: " + ", ".join(f"{reason} ({count})" for reason, count in counts)


def _names(task: Task) -> str:
    return ", ".join(TASK_SCORES[task])


def _problem_of(task: Task, row: HeldOutRow) -> GoldProblem | None:
    try:
        check_gold(task, row.gold, row.choices, row.source)
    except GoldError as error:
        return error.problem
    return None


def _query_problems(rows: Sequence[HeldOutRow]) -> list[GoldProblem | None]:
    """Run every gold query twice on its database."""
    problems: list[GoldProblem | None] = [None] * len(rows)
    end = time.monotonic() + MAX_CHECK_SECONDS
    for positions in _batches(rows):
        if time.monotonic() > end:
            logger.warning("The gold queries were not all checked within %.0f seconds.", MAX_CHECK_SECONDS)
            break
        golds, database = [rows[i].gold for i in positions], rows[positions[0]].database
        assert database is not None, "`task: sql` needs `database_path`"
        for i, problem in zip(positions, gold_query_problems(golds, database), strict=True):
            problems[i] = problem
    return problems


def _batches(rows: Sequence[HeldOutRow]) -> Iterator[list[int]]:
    """Positions of rows that share a database, as many as share a process."""
    by_database = defaultdict(list)
    for i, row in enumerate(rows):
        by_database[row.database].append(i)
    for positions in by_database.values():
        for start in range(0, len(positions), GOLDS_PER_PROCESS):
            yield positions[start : start + GOLDS_PER_PROCESS]
