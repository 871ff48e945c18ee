"""Every refusal of a recipe before any work is done, the cheap ones first.

What only a built trainer can know is refused in `llm_jepa.training.refusals`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_jepa.data.source import check_data_set
from llm_jepa.models.local_files import check_local_model
from llm_jepa.runs.output_directory import (
    check_checkpoint_settings,
    check_output_directory,
    holds_complete_run,
)
from llm_jepa.settings.schema import PATH_OR_MAPPING

if TYPE_CHECKING:
    from llm_jepa.recipe import Recipe


def check_run(recipe: "Recipe") -> None:
    """Check that a recipe, its settings read and checked, can be trained here. Nothing is written, here or on the Hub.

    Raises:
        ValueError: As `check_files`; or a tracker is not installed, the launcher's processes do not work together, the
            checkpoint cannot be resumed, or the result could not be published.
    """
    check_files(recipe.settings)
    if is_complete(recipe.settings):
        return
    # These import torch, which takes seconds.
    from llm_jepa.hub.publishing_trainer import repository_name
    from llm_jepa.hub.push import check_push
    from llm_jepa.training.checkpoints import check_resume
    from llm_jepa.training.launch import check_deepspeed, check_processes
    from llm_jepa.training.refusals import refuse_settings

    args = recipe.training
    refuse_settings(args)
    check_deepspeed(args)
    check_processes(args.world_size)
    check_resume(args)
    if args.push_to_hub and args.process_index == 0:
        is_private = args.hub_private_repo is not False
        check_push(recipe.settings, repository_name(args), is_private, args.hub_token)


def check_files(settings: Mapping[str, Any]) -> None:
    """Check the files that a recipe names: output directory, checkpoint, data and model. Imports no torch.

    Raises:
        ValueError: The output directory or the checkpoint belongs to another recipe, or the data or the model of a run
            that is not complete are not there.
    """
    check_output_directory(Path(settings["output_dir"]).expanduser(), settings)
    if is_complete(settings):
        return
    checkpoint = settings.get("resume_from_checkpoint")
    if checkpoint is not None:
        check_checkpoint_settings(Path(checkpoint), settings)
    for key in sorted(PATH_OR_MAPPING & settings.keys()):
        _check_configuration_file(key, settings[key])
    check_data_set(settings["dataset_name"])
    if "subfolder" not in (settings.get("model_init_kwargs") or {}):
        check_local_model(settings["model_name_or_path"])


def _check_configuration_file(key: str, value: Any) -> None:
    """Accept a mapping, an existing file, and of `deepspeed` what no path looks like: it takes base64 too."""
    if not isinstance(value, str) or Path(value).is_file() or (key == "deepspeed" and not value.endswith(".json")):
        return
    raise ValueError(f"`{key}: {value}` is not a file. Name a JSON file, or give a mapping.")


def is_complete(settings: Mapping[str, Any]) -> bool:
    """Whether the output directory holds a complete run, and no checkpoint is named to train from."""
    output_dir = Path(settings["output_dir"]).expanduser()
    return settings.get("resume_from_checkpoint") is None and holds_complete_run(output_dir)
