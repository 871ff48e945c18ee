"""What a cell is: the settings and rows that it trains on, and apart from them how it is evaluated."""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_jepa.runs.record import KEYS_WITHOUT_EFFECT_ON_RESULT, SCORING_KEYS, read_json

SPEC_FILE = "cell.json"
RESULT_FILE = "result.json"
LOCK_FILE = "cell.lock"
CURVE_FILE = "curve.jsonl"
RUN_DIRECTORY = "run"
DIVERGED = "diverged"
"""Key of the result of a cell whose loss was not finite: the error. It has no scores."""
NOT_TRAINED = KEYS_WITHOUT_EFFECT_ON_RESULT | SCORING_KEYS | {"dataset_test_split", "excluded_rows"}


@dataclass(frozen=True)
class CellSpec:
    """How to train and score a cell; stored as `cell.json`.

    Attributes:
        recipe: The recipe's path, as errors call it.
        settings: All settings of the training and of its scores.
        train_rows: Fingerprint of the tokens that are trained on.
        test_rows: Fingerprint of the rows of the split that is scored.
        objective_file: Digest of the files of a user's own objectives; None without one.
        every_steps: Steps between two evaluations along the training; None for none.
        max_rows, max_new_tokens, eval_batch_size: As in `Evaluation`.
        keep_model: Whether the trained model stays.
        version: Version of the package.
    """

    recipe: str
    settings: dict[str, Any]
    train_rows: str
    test_rows: str
    objective_file: str | None
    every_steps: int | None
    max_rows: int | None
    max_new_tokens: int
    eval_batch_size: int
    keep_model: bool
    version: str = importlib.metadata.version("llm-jepa")

    def training(self) -> dict[str, Any]:
        """What decides the trained model, and its scores along the training."""
        settings = {key: value for key, value in self.settings.items() if key not in NOT_TRAINED}
        along_training = {} if self.every_steps is None else self.evaluation()
        return settings | {
            "the rows trained on": self.train_rows,
            "the objective's file": self.objective_file,
            "the package's version": self.version,
            "evaluation.every_steps": self.every_steps,
            **along_training,
        }

    def evaluation(self) -> dict[str, Any]:
        """What decides the scores of a trained model. The batch size is left out: it changes rounding alone."""
        settings = {key: self.settings.get(key) for key in (*sorted(SCORING_KEYS), "dataset_test_split")}
        return settings | {
            "the rows tested on": self.test_rows,
            "evaluation.max_rows": self.max_rows,
            "evaluation.max_new_tokens": self.max_new_tokens,
        }


def read_spec(path: Path) -> CellSpec | None:
    """The specification in a file; None if there is no such file, or an earlier version of the package wrote it.

    Raises:
        ValueError: The file cannot be read.
    """
    content = read_json(path)
    return CellSpec(**content) if content.keys() == CellSpec.__dataclass_fields__.keys() else None


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two parts of specifications, in words; empty if nothing does."""
    return "; ".join(
        f"`{key}` was {_shown(before, key)} and is {_shown(now, key)}"
        for key in {**before, **now}
        if (key in before, before.get(key)) != (key in now, now.get(key))
    )


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "not given"
