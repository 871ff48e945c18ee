"""The cost of an arm of text, counted on its data before training."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel
from trl import get_peft_config

from llm_jepa.compute.flops import StepCounts, model_size, step_flops
from llm_jepa.data.views import IGNORED_LABEL
from llm_jepa.experiments.interface import ArmCost
from llm_jepa.inspection.prepared_recipe import PreparedRecipe
from llm_jepa.layouts import Batch, LaidOut
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.loading import meta_model
from llm_jepa.objectives.registry import new_objective
from llm_jepa.recipe import Recipe
from llm_jepa.training.schedule import planned_steps, rows_per_step

COUNTED_ROWS = 4096
"""Of more rows about so many, at even distances, are counted; their mean stands for all."""


def count_arm(recipe: Recipe, prepared: PreparedRecipe, rows: Sequence[dict[str, Any]]) -> ArmCost:
    """Count the tokens of an arm's rows in its layout, attention included, and the FLOPs from its model's config."""
    # Arms share `prepared` whatever their `lm_weight`, so the objective is that of the arm's own recipe.
    model, objective = recipe_model(recipe), new_objective(recipe.training)
    if objective is not None and not objective.trains_model:
        model.requires_grad_(False)
    size = model_size(model)
    num_rows = len(rows)
    rows = rows[:: max(1, num_rows // COUNTED_ROWS)]
    kept = [_counts(row, prepared) for row in rows]
    flops = sum(step_flops(counts, size) for counts in kept)
    flops += 0 if objective is None else sum(objective.extra_flops(counts, size) for counts in kept)
    dropout = recipe.training.jepa_dropout if recipe.training.jepa_weight > 0 else 0.0
    if dropout > 0:
        flops = (1 - dropout) * flops + dropout * sum(step_flops(_conversation_counts(row), size) for row in rows)
    return ArmCost(
        num_rows,
        planned_steps(num_rows, recipe.training),
        rows_per_step(num_rows, recipe.training),
        flops / len(rows),
        sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
    )


def recipe_model(recipe: Recipe) -> PreTrainedModel | PeftModel:
    """A recipe's model with its adapters, from the config; no weights are loaded."""
    model_path = resolve_model(recipe.settings["model_name_or_path"], recipe.model.model_revision)
    model = meta_model(recipe, model_path)
    adapter = get_peft_config(recipe.model)
    return model if adapter is None else get_peft_model(model, adapter)


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
        uncomputed_targets=laid_out.uncomputed_targets,
        uncomputed_target_tokens=int(laid_out.uncomputed_target_tokens),
    )


def attention_pairs(batch: Batch) -> int:
    """Pairs of positions whose scores attention computes: L^2 for each stored row, or each sequence of a flat one."""
    if batch.cumulative_lengths_S is not None:
        return int((batch.cumulative_lengths_S.diff() ** 2).sum())
    num_rows, length = batch.input_ids_RL.shape
    return num_rows * length**2
