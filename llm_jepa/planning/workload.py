"""The arms that a recipe is compared with, and micro-batches drawn from its rows."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from llm_jepa.data.preparation import all_long_error
from llm_jepa.inspection.prepared_recipe import PreparedRecipe, prepare_recipe
from llm_jepa.layouts import RowsLayout
from llm_jepa.layouts.base import lay_out_conversations
from llm_jepa.planning.dry_step import DryModel
from llm_jepa.planning.memory import Launch, keeps_half_weights
from llm_jepa.recipe import Recipe, build_recipe
from llm_jepa.settings.objectives import OBJECTIVE_OPTIONS, needs_views, options_with_effect

SAMPLED_ROWS = 2000
SAMPLED_BATCHES = 64

SFT = "SFT"
ARMS: dict[str, dict[str, Any]] = {
    SFT: {"jepa_weight": 0.0},
    "alone": {},
    "prefix": {"jepa_source_view": "prefix"},
    "prefix, stop-gradient": {"jepa_source_view": "prefix", "jepa_target": "stop_gradient"},
    "tube": {"jepa_objective": "tube"},
}
"""The arms that a recipe is compared with: name -> settings that replace the recipe's own."""

REPLACED_OPTIONS = (
    "jepa_objective",
    "objective_weights",
    "predictor_learning_rate",
    "span_sampler",
    "jepa_source_view",
    "jepa_target",
    "ema_decay",
    "ema_warmup_steps",
    "jepa_dropout",
    "jepa_dropout_rescale",
    "jepa_weight",
    "lm_weight",
    "long_rows",
)
COUNTED_ATTENTION = ("eager", "sdpa")
"""Attention that runs without GPU kernels. Other kinds compute the same products as sdpa."""


@dataclass(frozen=True)
class Workload:
    """A recipe and micro-batches of its rows.

    Attributes:
        batches: Micro-batches drawn as in training, sorted by their number of positions.
        launch: The launch file of training.
        scores_labels_only: Whether TRL's head scores only labelled positions, as on GPUs; ours always does.
    """

    recipe: Recipe
    prepared: PreparedRecipe
    batches: list[list[dict[str, Any]]]
    launch: Launch
    scores_labels_only: bool

    def inputs(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The inputs of the forward for a micro-batch."""
        if self.recipe.training.jepa_weight > 0 or not self.scores_labels_only:
            return self.prepared.inputs(rows)
        return {"laid_out": lay_out_conversations(rows, RowsLayout(0))}

    @cached_property
    def model(self) -> DryModel:
        """The model in training mode, without data."""
        half_weights = keeps_half_weights(self.launch)
        return DryModel(self.recipe, self.prepared.model_path, self.prepared.mask_form, half_weights)

    def flops_per_row(self) -> float:
        """FLOPs per row of the micro-batch whose number of positions is nearest to the mean."""
        positions = [_positions(self.inputs(rows)) for rows in self.batches]
        nearest = self.batches[np.argmin(np.abs(np.array(positions) - np.mean(positions)))]
        return self.model.flops(self.inputs(nearest)) / len(nearest)

    def tokens_per_row(self) -> tuple[float, float]:
        """Mean tokens per drawn row with gradient and without, excluding padding."""
        tokens = detached = rows = 0
        for batch in self.batches:
            inputs = self.inputs(batch)
            rows += len(batch)
            if "laid_out" not in inputs:
                tokens += int(inputs["attention_mask"].sum())
                continue
            tokens += inputs["laid_out"].batch.num_tokens
            detached += inputs["laid_out"].detached_tokens
        return tokens / rows, detached / rows

    def longest_rows(self) -> list[dict[str, Any]]:
        """The largest possible micro-batch: the longest conversations together."""
        size = self.recipe.training.per_device_train_batch_size
        lengths = [len(ids) for ids in self.prepared.rows["input_ids"]]
        return self.prepared.rows.select(sorted(range(len(lengths)), key=lambda i: -lengths[i])[:size]).to_list()


def arm_names(recipe: Recipe, is_tokenised: bool) -> list[str]:
    """The arms that a recipe is compared with: SFT always, the others if its views allow them."""
    is_pair = recipe.training.jepa_weight > 0 and needs_views(recipe.training.jepa_objective)
    names = [SFT] if is_tokenised else list(ARMS) if is_pair else [SFT, "tube"]
    if recipe.training.source_view_column is not None:  # such a source is no prefix of the conversation
        names = [name for name in names if "jepa_source_view" not in ARMS[name]]
    return names


def with_arm(recipe: Recipe, name: str) -> Recipe:
    """The recipe with the settings of an arm.

    Raises:
        ValueError: The recipe's other settings do not go with them.
    """
    arm = ARMS[name]
    idle = {*OBJECTIVE_OPTIONS} - options_with_effect(arm.get("jepa_objective", "pair"))
    replaced = {*REPLACED_OPTIONS, *idle}
    settings = {key: value for key, value in recipe.settings.items() if key not in replaced}
    return build_recipe(recipe.path, settings | arm)


def draw_workload(
    recipe: Recipe, launch: Launch, scores_labels_only: bool, prepared: PreparedRecipe | None = None
) -> Workload:
    """Draw micro-batches from a recipe's rows; without `prepared`, the rows or a sample of them are prepared.

    Raises:
        ValueError: The trainer would refuse these data or this model, or every row is longer than `max_length`.
    """
    recipe = _with_counted_attention(recipe)
    prepared = prepared or prepare_recipe(recipe, SAMPLED_ROWS)
    size, limit = recipe.training.per_device_train_batch_size, recipe.training.max_length
    if len(prepared.rows) == 0 and limit is not None:
        raise all_long_error(prepared.num_rows, "sampled train" if prepared.is_partial else "train", limit)
    order = np.random.default_rng(recipe.training.seed).permutation(len(prepared.rows))
    starts = range(0, max(1, len(order) - size + 1), size)[:SAMPLED_BATCHES]
    batches = [prepared.rows.select(order[start : start + size]).to_list() for start in starts]
    drawn = Workload(recipe, prepared, batches, launch, scores_labels_only)
    return replace(drawn, batches=sorted(batches, key=lambda rows: _positions(drawn.inputs(rows))))


def _with_counted_attention(recipe: Recipe) -> Recipe:
    """The recipe with sdpa in place of an attention that needs a GPU."""
    settings = recipe.settings
    if (settings.get("attn_implementation") or "sdpa") in COUNTED_ATTENTION:
        return recipe
    layout = "auto" if settings.get("jepa_layout") == "flat" else settings.get("jepa_layout", "auto")
    return build_recipe(recipe.path, settings | {"attn_implementation": "sdpa", "jepa_layout": layout})


def _positions(inputs: dict[str, Any]) -> int:
    if "laid_out" not in inputs:
        return int(inputs["input_ids"].numel())
    return inputs["laid_out"].num_positions
