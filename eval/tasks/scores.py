"""The scores of `llm_jepa.scoring` for lm-eval, which gives a row and the text generated for it.

What a score does not count is left out of a row's results, and so of the mean; the log names each gold that cannot be
scored by. Whether a stop token ended the text is
not told, so stop rate and cap rate are `llm-jepa eval`'s alone.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_jepa.scoring.tasks import STOP_SCORES, Task, score_row

logger = logging.getLogger(__name__)


def _scores_of(task: Task) -> Callable[[dict[str, Any], list[str]], dict[str, float]]:
    def process_results(row: dict[str, Any], results: list[str]) -> dict[str, float]:
        database = Path(row["database"]) if task == "sql" else None
        scores = score_row(task, results[0], row["target"], stopped=True, database=database)
        if scores.gold_problem is not None:
            logger.warning("A row is left out of the scores of `%s`: %s", task, scores.gold_problem.detail)
        return {name: float(v) for name, v in scores.values.items() if v is not None and name not in STOP_SCORES}

    return process_results


regex, math, qa, sql = (_scores_of(task) for task in ("regex", "math", "qa", "sql"))
