"""How fast this machine trains a recipe, measured in its first steps."""

import tempfile
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from llm_jepa.recipe import Recipe, build_recipe
from llm_jepa.train import build_trainer

CALIBRATION_STEPS = 20
WARM_UP_STEPS = 3

ASIDE: dict[str, Any] = {
    "save_strategy": "no",
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "push_to_hub": False,
    "report_to": "none",
    "disable_tqdm": True,
    "logging_strategy": "no",
}
"""Settings under which a calibration leaves nothing behind."""


class _Stopwatch(TrainerCallback):
    def __init__(self):
        self.ends_seconds: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends_seconds.append(time.perf_counter())


def seconds_per_step(recipe: Recipe, num_steps: int = CALIBRATION_STEPS) -> float:
    """Train the recipe's first steps, throw the result away, and give the mean of those after the warm-up.

    The loss is read in every step, so that a GPU has ended each step when its time is taken.
    """
    with tempfile.TemporaryDirectory() as directory:
        place = {"output_dir": str(Path(directory) / "run"), "max_steps": num_steps}
        aside = build_recipe(recipe.path, recipe.settings | ASIDE | place)
        trainer = build_trainer(aside)
        stopwatch = _Stopwatch()
        trainer.add_callback(stopwatch)
        trainer.train()
    ends = stopwatch.ends_seconds[WARM_UP_STEPS:]
    return (ends[-1] - ends[0]) / (len(ends) - 1)
