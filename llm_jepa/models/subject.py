"""Reads what `llm-jepa eval` and `probe` evaluate: a recipe, a run's directory, an adapter, or a model."""

from pathlib import Path
from typing import Any

from llm_jepa.models.adapters import base_settings_of, find_adapter
from llm_jepa.models.base_and_tuned import set_precision
from llm_jepa.models.checkpoint_choice import Checkpoint, choose_checkpoints
from llm_jepa.models.local_files import artifact_kind
from llm_jepa.models.run_mapping import KEYS_OF_ANY_DATA, warn_of_other_prompts
from llm_jepa.models.subject_checks import recipe_of
from llm_jepa.recipe import Recipe, build_recipe, parse_recipe
from llm_jepa.runs.record import RECIPE_FILE, settings_of_run
from llm_jepa.settings.reading import read_overrides

KEYS_OF_PRECISION = ("dtype", "bf16", "fp16")
AS_STORED: dict[str, Any] = {"bf16": False, "dtype": "auto"}
"""Of a model whose run is not recorded: computed in the precision in which its weights, or its base's, are stored."""


def read_subject(name: str, overrides: list[str], wanted: list[str] | None) -> tuple[Recipe, list[Checkpoint]]:
    """The recipe of a subject, and its checkpoints to evaluate.

    An override `dtype` is the precision of the evaluation, as in `llm-jepa generate`, unless `bf16` or `fp16` is given
    too. Logs a warning if the tuned one was trained on other prompts than the recipe makes.

    Args:
        name: A recipe's file; a run's output directory, which holds its recipe; or an adapter or a model, as a
            directory or a Hub id, with data and other settings in the overrides.
        overrides: `--key value`, as for a recipe.
        wanted: `base`, `tuned` or both; None for all that exist.

    Raises:
        ValueError: The recipe is wrong, the data are not named, or a checkpoint cannot be found here or on the Hub.
    """
    recipe, wanted = _recipe_and_wanted(name, overrides, wanted)
    given = read_overrides(overrides)
    if not given.keys() & {"bf16", "fp16"}:  # the precision of training would hide that of the weights
        set_precision(recipe, given.get("dtype"))
    checkpoints = choose_checkpoints(recipe.path, recipe.settings, wanted)
    is_merged = recipe.output_dir == Path(recipe.base[0]).expanduser()
    if "tuned" in checkpoints or is_merged:
        warn_of_other_prompts(recipe)
    return recipe, checkpoints


def read_tuned(directory: Path) -> tuple[Recipe, Checkpoint]:
    """The recipe by which a run, an adapter or a merged model is loaded, and which of its checkpoints it is.

    Raises:
        ValueError: The directory holds neither model nor adapter, or its run has not finished.
    """
    required, kind = ("model_name_or_path",), artifact_kind(directory)
    if (directory / RECIPE_FILE).is_file():
        recipe = parse_recipe([str(directory / RECIPE_FILE), f"--output_dir={directory}"], required)
        choose_checkpoints(recipe.path, recipe.settings, ["tuned"])
        return recipe, "tuned"
    is_adapter = kind == "adapter"
    settings = AS_STORED | base_settings_of(directory) if is_adapter else _model_settings(str(directory))
    recipe = build_recipe(directory, {**settings, "output_dir": str(directory)}, required)
    return recipe, "tuned" if is_adapter else "base"


def _recipe_and_wanted(name: str, overrides: list[str], wanted: list[str] | None) -> tuple[Recipe, list[str] | None]:
    """The recipe of a subject, and the names of its checkpoints; of a model alone it is `base`."""
    found = recipe_of(name, overrides)
    if found is not None:
        path, overrides = found
        return parse_recipe([str(path), *overrides]), wanted
    path, adapter = Path(name), find_adapter(name)
    if adapter is None:
        settings = {**_model_settings(name), "output_dir": name, **read_overrides(overrides)}
        return build_recipe(path, settings), wanted or ["base"]
    precision = {} if settings_of_run(adapter.directory) else AS_STORED
    settings = {
        **precision,
        **adapter.base_settings,
        **read_overrides(overrides),
        "output_dir": str(adapter.directory),
    }
    return build_recipe(path, settings), wanted


def _model_settings(name: str) -> dict[str, Any]:
    """The settings of a model without a recipe: its name, and prompts and precision of the run merged into it."""
    of_run = settings_of_run(Path(name))
    kept = {key: of_run[key] for key in (*KEYS_OF_ANY_DATA, *KEYS_OF_PRECISION) if key in of_run}
    return {"model_name_or_path": name, **(kept if of_run else AS_STORED)}
