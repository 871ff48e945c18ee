"""The cost of an arm of an experiment, counted on its data before training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from peft import get_peft_model
from trl import get_peft_config

from llm_jepa.compute.flops import ModelSize, StepCounts, model_size, step_flops
from llm_jepa.data.views import IGNORED_LABEL
from llm_jepa.inspection.prepared_recipe import PreparedRecipe
from llm_jepa.layouts import Batch, LaidOut
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.loading import meta_model
from llm_jepa.recipe import Recipe
from llm_jepa.training.schedule import planned_steps, rows_per_step

COUNTED_ROWS = 4096
"""Of more rows about so many, at even distances, are counted; their mean stands for all."""


@dataclass(frozen=True)
class ArmCost:
    """The cost of an arm's training, over the rows that all arms keep.

    Attributes:
        num_rows: Rows of an epoch.
        steps: Optimizer steps of the recipe's schedule.
        rows_per_step: Mean rows of a step.
        flops_per_row: Mean over rows, with loss dropout at its expectation.
    """

    num_rows: int
    steps: int
    rows_per_step: float
    flops_per_row: float

    @property
    def flops_per_step(self) -> float:
        return self.rows_per_step * self.flops_per_row


def count_arm(recipe: Recipe, prepared: PreparedRecipe, rows: Sequence[dict[str, Any]]) -> ArmCost:
    """Count the tokens of an arm's rows in its layout, attention included, and the FLOPs from its model's config."""
    size = recipe_model_size(recipe)
    objective = prepared.collator.objective
    num_rows = len(rows)
    rows = rows[:: max(1, num_rows // COUNTED_ROWS)]
    kept = [_counts(row, prepared) for row in rows]
    flops = sum(step_flops(counts, size) for counts in kept)
    flops += 0 if objective is None else sum(objective.extra_flops(counts, size) for counts in kept)
    dropout = recipe.training.jepa_dropout if recipe.training.jepa_weight > 0 else 0.0
    if dropout > 0:
        flops = (1 - dropout) * flops + dropout * sum(step_flops(_conversation_counts(row), size) for row in rows)
    return ArmCost(
        num_rows, planned_steps(num_rows, recipe.training), rows_per_step(num_rows, recipe.training), flops / len(rows)
    )


def recipe_model_size(recipe: Recipe) -> ModelSize:
    """The size of a recipe's model with its adapters, from the config; no weights are loaded."""
    model_path = resolve_model(recipe.settings["model_name_or_path"], recipe.model.model_revision)
    model = meta_model(recipe, model_path)
    adapter = get_peft_config(recipe.model)
    return model_size(model if adapter is None else get_peft_model(model, adapter))


def _conversation_counts(row: dict[str, Any]) -> StepCounts:
    tokens = len(row["input_ids"])
    labels = sum(label != IGNORED_LABEL for label in row["labels"])
    return StepCounts(tokens, tokens, 0, labels, attention_pairs=tokens**2)


def _counts(row: dict[str, Any], prepared: PreparedRecipe) -> StepCounts:
    counts = _conversation_counts(row)
    laid_out: LaidOut | None = prepared.collator([row]).get("laid_out")
    if laid_out is None:
        return counts
    return replace(
        counts,
        tokens=laid_out.batch.num_tokens,
        detached_tokens=laid_out.detached_tokens,
        attention_pairs=attention_pairs(laid_out.batch),
        detached_attention_pairs=0 if laid_out.detached is None else attention_pairs(laid_out.detached),
    )


def attention_pairs(batch: Batch) -> int:
    """Pairs of positions whose scores attention computes: L^2 for each stored row, or each sequence of a flat one."""
    if batch.cumulative_lengths_S is not None:
        return int((batch.cumulative_lengths_S.diff() ** 2).sum())
    num_rows, length = batch.input_ids_RL.shape
    return num_rows * length**2
