"""Reads what `llm-jepa eval` and `probe` evaluate: a recipe, a run's directory, an adapter, or a model."""

from pathlib import Path

from llm_jepa.models.adapters import find_adapter
from llm_jepa.models.checkpoint_choice import Checkpoint, choose_checkpoints
from llm_jepa.recipe import Recipe, build_recipe, parse_recipe
from llm_jepa.runs.record import RECIPE_FILE
from llm_jepa.settings.reading import RECIPE_SUFFIXES, read_overrides


def read_subject(name: str, overrides: list[str], wanted: list[str] | None) -> tuple[Recipe, list[Checkpoint]]:
    """The recipe of a subject, and its checkpoints to evaluate.

    Args:
        name: A recipe's file; a run's output directory, which holds its recipe; or an adapter or a model, as a
            directory or a Hub id, with data and other settings in the overrides.
        overrides: `--key value`, as for a recipe.
        wanted: `base`, `tuned` or both; None for all that exist.

    Raises:
        ValueError: The recipe is wrong, the data are not named, or a checkpoint cannot be found here or on the Hub.
    """
    path = Path(name)
    if path.suffix in RECIPE_SUFFIXES or path.is_file():
        recipe = parse_recipe([name, *overrides])
        return recipe, choose_checkpoints(recipe.path, recipe.settings, wanted)
    if (path / RECIPE_FILE).is_file():
        recipe = parse_recipe([str(path / RECIPE_FILE), *overrides, f"--output_dir={path}"])
        return recipe, choose_checkpoints(recipe.path, recipe.settings, wanted)
    adapter = find_adapter(name)
    if adapter is None:
        recipe = build_recipe(path, {"model_name_or_path": name, "output_dir": name, **read_overrides(overrides)})
        return recipe, choose_checkpoints(recipe.path, recipe.settings, wanted or ["base"])
    settings = {**adapter.base_settings, **read_overrides(overrides), "output_dir": str(adapter.directory)}
    recipe = build_recipe(path, settings)
    return recipe, choose_checkpoints(recipe.path, recipe.settings, wanted)
