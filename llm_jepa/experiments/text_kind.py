"""Recipes of text: rows as tokens, costs counted from them, and generated answers scored by the task."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.row_keys import Key, digest, fingerprint, row_keys
from llm_jepa.evaluation.generation import ids_with_room
from llm_jepa.evaluation.golds import check_golds
from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.evaluation.run import evaluate, predict, score
from llm_jepa.experiments.arm_cost import count_arm
from llm_jepa.experiments.interface import ArmCost, Outcome
from llm_jepa.inspection.prepared_recipe import prepare_recipe
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.loading import model_config, position_limit
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.recipe import Recipe
from llm_jepa.scoring.tasks import rates

KEYS_WITHOUT_EFFECT_ON_ROWS = frozenset(
    {
        "learning_rate",
        "predictor_learning_rate",
        "weight_decay",
        "warmup_steps",
        "lr_scheduler_type",
        "max_steps",
        "seed",
        "lm_weight",
        "info_nce_temperature",
        "regulariser_weight",
        "smooth_l1_weight",
        "kl_weight",
        "ema_decay",
        "ema_warmup_steps",
        "jepa_dropout",
        "jepa_dropout_rescale",
        "dataset_test_split",
    }
)
"""Arms that differ in these alone share their prepared rows and layout. Another key may stand here only if it changes
neither; what it adds to an arm's FLOPs is counted by the arm's own objective."""


class TextTrainRows:
    """A `TrainRows` of tokens."""

    def __init__(self, recipe: Recipe):
        self.prepared = prepare_recipe(recipe)
        self.dropped = [index for index, _ in self.prepared.dropped]
        self.num_rows = len(self.prepared.rows) + len(self.dropped)
        self._kept: dict[frozenset[int], list[dict[str, Any]]] = {}

    def fingerprint(self, excluded: frozenset[int]) -> str:
        """Of the tokens."""
        return fingerprint(map(digest, self.kept(excluded)))

    def cost(self, recipe: Recipe, excluded: frozenset[int]) -> ArmCost:
        """Counted by `count_arm`."""
        return count_arm(recipe, self.prepared, self.kept(excluded))

    def kept(self, excluded: frozenset[int]) -> list[dict[str, Any]]:
        """The rows that are left."""
        if excluded not in self._kept:
            self._kept[excluded] = [row for row in self.prepared.rows if row["row_index"] not in excluded]
        return self._kept[excluded]


class TextHeldOut:
    """A `HeldOut` that generates.

    Raises:
        ValueError: The rows cannot be loaded or scored by, or a prompt leaves no room for an answer: known before the
            model is trained.
    """

    def __init__(self, recipe: Recipe, max_rows: int | None, max_new_tokens: int, batch_size: int):
        self.recipe, self.limits = recipe, (max_new_tokens, batch_size)
        self.tokenizer = load_run_tokenizer(recipe)
        self.rows = load_rows(recipe, self.tokenizer, max_rows)
        model_path = resolve_model(recipe.settings["model_name_or_path"], recipe.model.model_revision)
        positions = position_limit(model_config(recipe, model_path))
        prompts, template_kwargs = zip(*((row.prompt, row.template_kwargs) for row in self.rows), strict=True)
        ids_with_room(self.tokenizer, prompts, template_kwargs, max_new_tokens, positions)
        self.gold_problems = check_golds(recipe.training.task, self.rows, recipe.training.extract)

    def scores(self, model: Any, tokenizer: Any) -> dict[str, float]:
        """In the precision of the training."""
        args = self.recipe.training
        half = torch.bfloat16 if args.bf16 else torch.float16
        with torch.autocast(args.device.type, dtype=half, enabled=args.bf16 or args.fp16):
            predictions = predict(args.task, model, tokenizer, self.rows, *self.limits)
        found = rates(score(args.task, predictions, self.rows, self.gold_problems, args.extract))
        return {name: rate.fraction for name, rate in found.items() if rate.count}

    def evaluate(self, directory: Path) -> Outcome:
        """As `llm-jepa eval` does."""
        (tuned,) = evaluate(self.recipe, ["tuned"], self.tokenizer, self.rows, *self.limits, directory=directory)
        return Outcome(
            scores={name: rate.fraction for name, rate in tuned.scores.items() if rate.count},
            rows={name: [row.values[name] for row in tuned.rows] for name in tuned.scores},
            row_indices=[row.row_index for row in self.rows],
            clusters=[row.cluster for row in self.rows],
            predictions=tuned.predictions,
            left_out=tuned.left_out,
            problems={i: row.problem for i, row in enumerate(tuned.rows) if row.problem is not None},
        )


class TextKind:
    """The `RecipeKind` of text."""

    def rows_key(self, settings: Mapping[str, Any]) -> str:
        """Of all settings that may matter."""
        seen = {key: value for key, value in settings.items() if key not in KEYS_WITHOUT_EFFECT_ON_ROWS}
        if seen.get("jepa_weight", 1) > 0:
            seen.pop("jepa_weight", None)
        return json.dumps(seen, sort_keys=True, default=str)

    def train_rows(self, recipe: Recipe) -> TextTrainRows:
        """As the trainer prepares them."""
        return TextTrainRows(recipe)

    def check_files(self, recipe: Recipe, split: str) -> None:
        """Rows of text name no files."""

    def row_keys(self, recipe: Recipe, split: str) -> list[Key]:
        """By the words of source and target."""
        args = recipe.training
        return row_keys(recipe.script, split, ColumnMapping.from_args(args), args.dataset_text_field)

    def test_fingerprint(self, recipe: Recipe) -> str:
        """Of prompts, golds and what else scores them."""
        return fingerprint(digest(asdict(row)) for row in load_rows(recipe, load_run_tokenizer(recipe)))

    def held_out(self, recipe: Recipe, max_rows: int | None, max_new_tokens: int, batch_size: int) -> TextHeldOut:
        """With golds that the task can score by."""
        return TextHeldOut(recipe, max_rows, max_new_tokens, batch_size)
