"""Scores a model along its training, for the steps at which it reaches a score."""

import json
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from llm_jepa.experiments.interface import HeldOut
from llm_jepa.files.atomic import write_atomically
from llm_jepa.training.evaluation_mode import in_evaluation


class LearningCurve(TrainerCallback):
    """Scores the test rows every few steps, and appends step, scores and the seconds of the evaluation to a file.

    Training is not affected: evaluation draws no random number.

    Args:
        held_out: The rows to score on.
        every_steps: Steps between two evaluations.
        path: A JSONL file. A step that is evaluated again after a resume is the same, and the last one counts.
    """

    def __init__(self, held_out: HeldOut, every_steps: int, path: Path):
        self.held_out, self.every_steps, self.path = held_out, every_steps, path
        lines = [json.dumps(point) + "\n" for point in read_curve(path)]
        write_atomically("".join(lines), path)  # without a line that a kill has cut off

    def on_step_end(self, args, state, control, model=None, processing_class=None, **kwargs):
        """Score the model if the step is due."""
        if state.global_step % self.every_steps == 0:
            started = time.perf_counter()
            with in_evaluation(model):
                scores = self.held_out.scores(model, processing_class)
            point = {"step": state.global_step, "scores": scores, "seconds": time.perf_counter() - started}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(point) + "\n")


def read_curve(path: Path) -> list[dict[str, Any]]:
    """The points of a curve in the order of their steps; none without a file."""
    if not path.is_file():
        return []
    whole_lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    points = [json.loads(line) for line in whole_lines]
    return sorted({point["step"]: point for point in points}.values(), key=lambda point: point["step"])
