"""Every refusal of a recipe before any work is done, the cheap ones first.

What only a built trainer can know is refused in `llm_jepa.training.refusals`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_jepa.data.columns import check_named_columns
from llm_jepa.data.file_record import check_same_files
from llm_jepa.data.local_splits import source_of, splits_without
from llm_jepa.data.source import check_data_set, check_local_data
from llm_jepa.files.paths import looks_like_a_path
from llm_jepa.hub.login import check_login, repository_name
from llm_jepa.models.source import OTHER_WEIGHT_SETTINGS, check_local_base, check_local_model, check_model_on_hub
from llm_jepa.runs.output_directory import (
    check_checkpoint_settings,
    check_output_directory,
    holds_complete_run,
    is_same_run,
)
from llm_jepa.settings.checks import check_recipe
from llm_jepa.settings.reading import recipe_and_overrides
from llm_jepa.settings.schema import PATH_OR_MAPPING, recipe_kind
from llm_jepa.settings.vision_checks import named_parts
from llm_jepa.training.checkpoints import check_resume, named_checkpoint
from llm_jepa.training.packages import check_packages
from llm_jepa.training.trackers import check_trackers

TEMPLATE_SUFFIXES = (".jinja", ".j2")
"""A `chat_template_path` that ends otherwise is a model."""

if TYPE_CHECKING:
    from llm_jepa.recipe import Recipe
    from llm_jepa.vision.recipe import VisionRecipe


def check_command_line(argv: Sequence[str]) -> None:
    """Check a recipe with its overrides as far as possible without torch, which takes seconds to import.

    Raises:
        ValueError: As `check_recipe` and `check_files`.
    """
    check_files(check_recipe(*recipe_and_overrides(argv)))


def check_run(recipe: "Recipe | VisionRecipe") -> None:
    """Check that a recipe, its settings read and checked, can be trained here. Nothing is written, here or on the Hub.

    Raises:
        ValueError: As `check_files`; or the launcher's processes do not work together, or the result could not be
            published.
    """
    check_files(recipe.settings)
    if is_complete(recipe.settings):
        return
    # These import torch, which takes seconds.
    from llm_jepa.hub.push import check_push
    from llm_jepa.recipe import Recipe
    from llm_jepa.training.launch import check_deepspeed, check_processes
    from llm_jepa.training.refusals import refuse_settings

    args = recipe.training
    if isinstance(recipe, Recipe):
        refuse_settings(recipe.training)
    check_deepspeed(args)
    check_processes(args.world_size)
    if args.push_to_hub and args.process_index == 0:
        is_private = args.hub_private_repo is not False
        check_push(recipe.settings, repository_name(args.hub_model_id, recipe.output_dir), is_private, args.hub_token)


def check_files(settings: Mapping[str, Any]) -> None:
    """Check what a recipe names: data, model, output directory, checkpoint, trackers, login. Imports no torch.

    Raises:
        ValueError: The output directory or the checkpoint belongs to another recipe, or to a run whose data files
            changed since; or of a run that is not complete data, model, tracker, package or login are missing, or the
            checkpoint cannot be resumed.
    """
    output_dir = Path(settings["output_dir"]).expanduser()
    if not (is_complete(settings) and is_same_run(output_dir, settings)):
        _check_local_inputs(settings, reads_weights=not settings.get("from_scratch"))
    check_output_directory(output_dir, settings)
    remedy = "Nothing was overwritten. Name another `output_dir`"
    check_same_files(output_dir, settings, is_complete(settings), remedy)
    if is_complete(settings):
        return
    _check_test_split(settings)
    if settings.get("dataset_streaming") and settings.get("max_steps", -1) == -1:
        raise ValueError("`dataset_streaming: true` needs `max_steps`: nobody knows how many rows a stream has.")
    checkpoint = named_checkpoint(settings)
    if checkpoint is not None:
        check_checkpoint_settings(checkpoint, settings)
        check_same_files(checkpoint.parent, settings, False, "Leave `resume_from_checkpoint` out to start anew")
    check_resume(settings)
    check_trackers(settings.get("report_to"))
    check_packages(settings)
    if settings.get("push_to_hub"):
        repo_id = repository_name(settings.get("hub_model_id"), settings["output_dir"])
        check_login(repo_id, settings.get("hub_token"))
    _check_hub_inputs(settings)


def _check_test_split(settings: Mapping[str, Any]) -> None:
    """Refuse a split that local data lack, if the recipe names it or training evaluates on it."""
    source = source_of(settings)
    known = splits_without(source, source.dataset_test_split)
    if known and ("dataset_test_split" in settings or settings.get("eval_strategy", "no") != "no"):
        raise ValueError(
            f"`dataset_test_split: {source.dataset_test_split}`: `{source.dataset_name}` has only "
            f"{', '.join(f'`{name}`' for name in known)}. Name one of them, or a part of one, such as "
            f"`{known[0]}[90%:]`."
        )


def check_inputs(settings: Mapping[str, Any]) -> None:
    """Check what a recipe reads where it is not trained: data, model without its weights, template. Imports no torch.

    Raises:
        ValueError: One of them is not there, or not of a kind that can be trained.
    """
    _check_local_inputs(settings, reads_weights=False)
    _check_hub_inputs(settings)


def _check_local_inputs(settings: Mapping[str, Any], reads_weights: bool) -> None:
    for key in sorted(PATH_OR_MAPPING & settings.keys()):
        _check_configuration_file(key, settings[key])
    check_named_columns(settings, check_local_data(settings["dataset_name"]))
    if recipe_kind(settings) == "vision":
        for key in loaded_models(settings):
            check_local_model(settings[key], key)
        return
    template = settings.get("chat_template_path")
    if template is not None and not Path(template).exists() and _is_path_of_template(template):
        raise ValueError(
            f"`chat_template_path: {template}` is no file or directory (looked in {Path.cwd()}). Name a file that "
            f"ends in {' or '.join(TEMPLATE_SUFFIXES)}, or a model, whose template is copied."
        )
    loading = settings.get("model_init_kwargs") or {}
    if "subfolder" not in loading:
        check_local_model(settings["model_name_or_path"])
    if loading.keys().isdisjoint(OTHER_WEIGHT_SETTINGS):
        check_local_base(settings["model_name_or_path"], reads_weights)


def _is_path_of_template(name: str) -> bool:
    return name.endswith(TEMPLATE_SUFFIXES) or looks_like_a_path(name)


def loaded_models(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of a VL-JEPA recipe that name what is loaded: its parts, or the model of an earlier stage."""
    return named_parts(settings) if settings.get("model_name_or_path") is None else ("model_name_or_path",)


def _check_hub_inputs(settings: Mapping[str, Any]) -> None:
    check_data_set(settings["dataset_name"])
    if recipe_kind(settings) == "vision":
        for key in loaded_models(settings):
            check_model_on_hub(settings[key], key)
        return
    if "cache_dir" not in (settings.get("model_init_kwargs") or {}):
        check_model_on_hub(settings["model_name_or_path"])
    template = settings.get("chat_template_path")
    if template is not None and not Path(template).exists():
        check_model_on_hub(template, "chat_template_path")


def _check_configuration_file(key: str, value: Any) -> None:
    """Accept a mapping, an existing file, and of `deepspeed` what no path looks like: it takes base64 too."""
    if not isinstance(value, str) or Path(value).is_file() or (key == "deepspeed" and not value.endswith(".json")):
        return
    raise ValueError(f"`{key}: {value}` is not a file. Name a JSON file, or give a mapping.")


def is_complete(settings: Mapping[str, Any]) -> bool:
    """Whether the output directory holds a complete run, and no checkpoint is named to train from."""
    output_dir = Path(settings["output_dir"]).expanduser()
    return settings.get("resume_from_checkpoint") is None and holds_complete_run(output_dir)
