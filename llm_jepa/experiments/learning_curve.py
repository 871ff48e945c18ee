"""Scores a model along its training, for the steps at which it reaches a score."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from llm_jepa.evaluation.held_out_rows import HeldOutRow
from llm_jepa.evaluation.run import predict, score
from llm_jepa.experiments.cell_spec import CellSpec
from llm_jepa.files.atomic import write_atomically
from llm_jepa.recipe import Recipe
from llm_jepa.scoring.gold import GoldProblem
from llm_jepa.scoring.tasks import rates


class LearningCurve(TrainerCallback):
    """Generates for the test rows every few steps, and appends step and scores to a file.

    Training is not affected: decoding is greedy and draws no random number.

    Args:
        recipe: The cell's.
        spec: Its limits of evaluation and the steps between two of them.
        rows: The rows to score on.
        gold_problems: What `check_golds` found of them.
        path: A JSONL file. A step that is evaluated again after a resume is the same, and the last one counts.
    """

    def __init__(
        self,
        recipe: Recipe,
        spec: CellSpec,
        rows: Sequence[HeldOutRow],
        gold_problems: Sequence[GoldProblem | None],
        path: Path,
    ):
        assert spec.every_steps is not None
        self.recipe, self.spec, self.path = recipe, spec, path
        self.rows, self.gold_problems = rows, gold_problems
        lines = [json.dumps(point) + "\n" for point in read_curve(path)]
        write_atomically("".join(lines), path)  # without a line that a kill has cut off

    def on_step_end(self, args, state, control, model=None, processing_class=None, **kwargs):
        """Score the model if the step is due."""
        assert self.spec.every_steps is not None
        if state.global_step % self.spec.every_steps == 0:
            scores = self._scores(model, processing_class)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, "scores": scores}) + "\n")

    def _scores(self, model: Any, tokenizer: Any) -> dict[str, float]:
        was_training, args, rows = model.training, self.recipe.training, self.rows
        model.eval()
        half = torch.bfloat16 if args.bf16 else torch.float16
        with torch.autocast(args.device.type, dtype=half, enabled=args.bf16 or args.fp16):
            limits = self.spec.max_new_tokens, self.spec.eval_batch_size
            predictions = predict(args.task, model, tokenizer, rows, *limits)
        model.train(was_training)
        found = rates(score(args.task, predictions, rows, self.gold_problems, args.extract))
        return {name: rate.fraction for name, rate in found.items() if rate.count}


def read_curve(path: Path) -> list[dict[str, Any]]:
    """The points of a curve in the order of their steps; none without a file."""
    if not path.is_file():
        return []
    whole_lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    points = [json.loads(line) for line in whole_lines]
    return sorted({point["step"]: point for point in points}.values(), key=lambda point: point["step"])
