"""The scores of `llm_jepa.scoring` for lm-eval, which gives a row and the text generated for it.

What a score does not count is left out of a row's results, and so of the mean. Whether a stop token ended the text is
not told, so stop rate and cap rate are `llm-jepa eval`'s alone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_jepa.scoring.tasks import STOP_SCORES, Task, score_row


def _scores_of(task: Task) -> Callable[[dict[str, Any], list[str]], dict[str, float]]:
    def process_results(row: dict[str, Any], results: list[str]) -> dict[str, float]:
        database = Path(row["database"]) if task == "sql" else None
        values = score_row(task, results[0], row["target"], stopped=True, database=database).values
        return {name: float(v) for name, v in values.items() if v is not None and name not in STOP_SCORES}

    return process_results


regex, math, qa, sql = (_scores_of(task) for task in ("regex", "math", "qa", "sql"))
