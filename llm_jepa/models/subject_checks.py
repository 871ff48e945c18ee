"""Refuses what `llm-jepa eval` and `probe` cannot evaluate. Imports no torch, so that a mistake is told at once."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from llm_jepa.data.source import check_data_set
from llm_jepa.files.paths import looks_like_a_path
from llm_jepa.models.checkpoint_choice import choose_checkpoints
from llm_jepa.models.local_files import MODEL_FILES
from llm_jepa.runs.record import RECIPE_FILE, settings_of_run
from llm_jepa.settings.checks import check_recipe
from llm_jepa.settings.reading import RECIPE_SUFFIXES, read_overrides, read_settings


def recipe_of(name: str, overrides: list[str]) -> tuple[Path, list[str]] | None:
    """The recipe of a subject and its overrides; None for an adapter or a model without one.

    Args:
        name: A recipe's file; a run's output directory, which holds its recipe; or an adapter or a model.
        overrides: `--key value`, as for a recipe.
    """
    path = Path(name)
    if path.suffix in RECIPE_SUFFIXES or path.is_file():
        return path, overrides
    if (path / RECIPE_FILE).is_file():
        return path / RECIPE_FILE, [*overrides, f"--output_dir={path}"]
    return None


def settings_and_directory(name: str, overrides: list[str]) -> tuple[dict[str, Any], Path]:
    """The settings of a subject's recipe, or of the run that was merged into it, and the subject's directory."""
    found = recipe_of(name, overrides)
    if found is None:
        return settings_of_run(Path(name)) | read_overrides(overrides), Path(name).expanduser()
    settings = read_settings(*found)
    return settings, Path(settings.get("output_dir", name)).expanduser()


def check_subject(name: str, overrides: list[str], wanted: list[str] | None) -> None:
    """Check a subject as far as possible without torch: settings, data, and whether its checkpoints are here.

    Raises:
        ValueError: The subject, its data or a checkpoint is not there, or the recipe or an override is wrong.
    """
    found = recipe_of(name, overrides)
    if found is None:
        _check_without_recipe(name, read_overrides(overrides))
        return
    path, overrides = found
    settings = check_recipe(path, overrides)
    check_data_set(settings["dataset_name"])
    choose_checkpoints(path, settings, wanted)


def _check_without_recipe(name: str, settings: Collection[str]) -> None:
    """Check what has no recipe: a directory of a model or adapter, or perhaps a Hub id, for which data are named."""
    directory = Path(name)
    if directory.is_dir():
        is_there = any(True for pattern in MODEL_FILES for _ in directory.glob(pattern))
    else:
        is_there = "dataset_name" in settings and not looks_like_a_path(name)
    if not is_there:
        raise ValueError(
            f"There is no run, adapter or model in `{name}` (looked in {Path.cwd()}). Give the output directory of a "
            "run; of a model on the Hub give its id, and `--dataset_name` too."
        )
