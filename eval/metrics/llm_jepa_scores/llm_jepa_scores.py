"""The scores of a task as an `evaluate` metric: `evaluate.load("eval/metrics/llm_jepa_scores", "regex")`."""

from pathlib import Path
from typing import Any

import datasets
import evaluate

from llm_jepa.scoring.tasks import STOP_SCORES, TASKS, Task, left_out, rates, score_row

_TASKS = [task for task in TASKS if task != "choice"]
_DESCRIPTION = f"""The scores of generated texts that `llm-jepa eval` shows, in [0, 1].

The configuration is the task, one of {", ".join(_TASKS)}. It decides which scores stand beside strict, prefix and
contains.
"""
_INPUTS = """
Args:
    predictions: Generated texts, without stop token.
    references: The texts wanted.
    stopped: For each text whether a stop token ended it; with it come `stopped` and `capped`.
    databases: For `sql`, the SQLite file of each row.
    sources: For `path`, `countdown` and `maze`, the source of each row.

Returns: Score -> fraction of the rows that it counts; a score that counts none is left out. `left_out` is there if
    some golds cannot be scored by: reason -> number of rows, which the task's own scores do not count.
"""


class LLMJEPAScores(evaluate.Metric):
    """`llm_jepa.scoring.tasks` behind `evaluate`'s interface."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _TASKS:
            raise ValueError(f"The configuration is {self.config_name!r}; allowed are {', '.join(_TASKS)}.")
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        stopped: list[bool] | None = None,
        databases: list[str] | None = None,
        sources: list[str] | None = None,
    ) -> dict[str, Any]:
        task: Task = self.config_name
        paths = [Path(database) for database in databases] if databases is not None else [None] * len(references)
        flags = [True] * len(references) if stopped is None else stopped
        asked = [""] * len(references) if sources is None else sources
        rows = [
            score_row(task, *row, source=source)
            for *row, source in zip(predictions, references, flags, paths, asked, strict=True)
        ]
        hidden = STOP_SCORES if stopped is None else ()
        found = {name: rate.fraction for name, rate in rates(rows).items() if rate.count and name not in hidden}
        reasons = left_out(rows)
        return found | ({"left_out": reasons} if reasons else {})
