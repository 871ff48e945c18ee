"""Measures how fast this machine trains a recipe, in its first steps."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback

from llm_jepa.objectives.draws import is_dropped
from llm_jepa.recipe import Recipe, build_recipe
from llm_jepa.train import build_trainer
from llm_jepa.training.schedule import rows_per_step

CALIBRATION_STEPS = 20
WARM_UP_STEPS = 3

CALIBRATION_SETTINGS: dict[str, Any] = {
    "save_strategy": "no",
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "push_to_hub": False,
    "report_to": "none",
    "disable_tqdm": True,
    "logging_strategy": "no",
}
"""Settings with which a calibration writes no files and reports nothing."""


@dataclass(frozen=True)
class Calibration:
    """Measured steps of one device.

    Attributes:
        seconds_per_step: Mean after the warm-up.
        rows_per_second: Rows of a step divided by `seconds_per_step`.
        dropped_share: Share of the measured steps that dropped the JEPA term.
        is_on_gpu: Whether the device was a GPU.
    """

    seconds_per_step: float
    rows_per_second: float
    dropped_share: float
    is_on_gpu: bool


class _Stopwatch(TrainerCallback):
    def __init__(self):
        self.ends_seconds: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends_seconds.append(time.perf_counter())


def calibrate(recipe: Recipe, num_steps: int = CALIBRATION_STEPS) -> Calibration:
    """Train the recipe's first steps, discard the result, and time the steps after the warm-up.

    The loss is read in every step, so a GPU has finished a step when its time is taken.
    """
    with tempfile.TemporaryDirectory() as directory:
        place = {"output_dir": str(Path(directory) / "run"), "max_steps": num_steps}
        trainer = build_trainer(build_recipe(recipe.path, recipe.settings | CALIBRATION_SETTINGS | place))
        stopwatch = _Stopwatch()
        trainer.add_callback(stopwatch)
        trainer.train()
    ends = stopwatch.ends_seconds[WARM_UP_STEPS:]
    seconds = (ends[-1] - ends[0]) / (len(ends) - 1)
    args = recipe.training
    steps = range(WARM_UP_STEPS + 1, num_steps)
    dropped = sum(is_dropped(args.seed, step, args.jepa_dropout) for step in steps) / len(steps)
    rows: float = args.per_device_train_batch_size * args.gradient_accumulation_steps
    if isinstance(trainer.train_dataset, Dataset):
        rows = rows_per_step(len(trainer.train_dataset), recipe.training)
    return Calibration(seconds, rows / seconds, dropped if args.jepa_weight > 0 else 0.0, args.device.type == "cuda")
