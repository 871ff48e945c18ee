"""Which checkpoints of a recipe are evaluated: the base model, and the one that its run tuned. Imports no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from llm_jepa.models.local_files import ADAPTER_CONFIG, MODEL_CONFIG
from llm_jepa.runs.output_directory import holds_complete_run
from llm_jepa.runs.record import ENVIRONMENT_FILE, RECIPE_FILE
from llm_jepa.settings.reading import read_settings
from llm_jepa.settings.schema import recipe_kind
from llm_jepa.settings.vision_checks import named_parts

Checkpoint = Literal["base", "tuned"]
CHECKPOINTS: tuple[Checkpoint, ...] = get_args(Checkpoint)


def check_names(wanted: Sequence[str]) -> None:
    """Raise ValueError unless the names are those of checkpoints, each once."""
    if not {*wanted} <= {*CHECKPOINTS} or len({*wanted}) < len(wanted):
        raise ValueError(f"Checkpoints {','.join(wanted)!r}; allowed are {', '.join(CHECKPOINTS)}, each once.")


def choose_checkpoints(
    recipe: Path, settings: Mapping[str, Any], wanted: Sequence[str] | None = None
) -> list[Checkpoint]:
    """The checkpoints to evaluate, base first: the wanted ones, or all that the recipe has.

    Args:
        recipe: What the settings are called in errors.
        settings: Those of the recipe.
        wanted: Names of checkpoints.

    Raises:
        ValueError: A checkpoint is unknown or named twice, a run from scratch has no base, or training has not ended.
    """
    is_vision = recipe_kind(settings) == "vision"
    has_base = not settings.get("from_scratch") and not is_vision
    if wanted is None:
        wanted = CHECKPOINTS if has_base else ["tuned"]
    check_names(wanted)
    if "base" in wanted and not has_base:
        reason = "A run of VL-JEPA joins its parts by" if is_vision else "`from_scratch: true` starts from"
        raise ValueError(f"{reason} random weights: there is no base. Give `--checkpoints tuned`.")
    if "tuned" in wanted:
        _check_run(recipe, settings, "base" in wanted)
    return [checkpoint for checkpoint in CHECKPOINTS if checkpoint in wanted]


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds a PEFT adapter."""
    return (directory / ADAPTER_CONFIG).is_file()


def _check_run(recipe: Path, settings: Mapping[str, Any], has_base: bool) -> None:
    """Raise unless the output directory holds a finished run of this recipe's model."""
    directory = Path(settings["output_dir"]).expanduser()
    or_base = ", or evaluate the base model alone with `--checkpoints base`" if has_base else ""
    # What was published or merged has no environment beside its recipe.
    is_run = (directory / RECIPE_FILE).is_file() and (directory / ENVIRONMENT_FILE).is_file()
    if is_run and not holds_complete_run(directory):
        raise ValueError(
            f"The run in `output_dir: {directory}` has not finished. Wait for it, or go on with it (llm-jepa train "
            f"{recipe}){or_base}."
        )
    if not (is_adapter(directory) or (directory / MODEL_CONFIG).is_file()):
        raise ValueError(
            f"`output_dir: {directory}` holds no trained model or adapter. Train first (llm-jepa train {recipe})"
            f"{or_base}."
        )
    if (directory / RECIPE_FILE).is_file():
        there = read_settings(directory / RECIPE_FILE)
        for key in ("model_name_or_path", *(named_parts(settings) if recipe_kind(settings) == "vision" else ())):
            trained, given = there.get(key), settings.get(key)
            if trained != given:
                raise ValueError(
                    f"`output_dir: {directory}` was trained from {trained!r}; `{key}` is {given!r}. Use the settings "
                    "of the run."
                )
