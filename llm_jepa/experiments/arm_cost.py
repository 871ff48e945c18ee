"""The cost of an arm of an experiment, counted on its data before training."""

from dataclasses import dataclass, replace

from peft import get_peft_model
from trl import get_peft_config

from llm_jepa.compute.flops import ModelSize, StepCounts, model_size, step_flops
from llm_jepa.inspection.recipe_rows import inspect_recipe
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.loading import meta_model
from llm_jepa.recipe import Recipe
from llm_jepa.training.schedule import planned_steps


@dataclass(frozen=True)
class ArmCost:
    """The cost of an arm's training, over the rows it keeps.

    Attributes:
        num_rows: Rows of an epoch.
        steps: Optimizer steps of the recipe's schedule.
        flops_per_row: Mean over rows, with loss dropout at its expectation.
    """

    num_rows: int
    steps: int
    flops_per_row: float


def count_arm(recipe: Recipe) -> ArmCost:
    """Count the tokens of an arm in its layout, and the FLOPs from its model's config."""
    inspection = inspect_recipe(recipe, 0)
    counts = {name: sum(tokens) for name, tokens in inspection.counts.items()}
    num_rows = len(inspection.counts["conversation"])
    conversations = StepCounts(counts["conversation"], counts["conversation"], 0, counts["labels"])
    kept = replace(conversations, tokens=counts["forward"], detached_tokens=counts["no-grad forward"])
    size = recipe_model_size(recipe)
    dropout = recipe.training.jepa_dropout if recipe.training.jepa_weight > 0 else 0.0
    flops = (1 - dropout) * step_flops(kept, size) + dropout * step_flops(conversations, size)
    return ArmCost(num_rows, planned_steps(num_rows, recipe), flops / num_rows)


def recipe_model_size(recipe: Recipe) -> ModelSize:
    """The size of a recipe's model with its adapters, from the config; no weights are loaded."""
    model_path = resolve_model(recipe.settings["model_name_or_path"], recipe.model.model_revision)
    model = meta_model(recipe, model_path)
    adapter = get_peft_config(recipe.model)
    return model_size(model if adapter is None else get_peft_model(model, adapter))
