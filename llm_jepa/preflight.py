"""Every refusal of a recipe before any work is done, the cheap ones first.

What only the built trainer can know is refused in `llm_jepa.training.refusals`.
"""

from pathlib import Path

from llm_jepa.data.local_files import local_files
from llm_jepa.hub.publishing_trainer import repository_name
from llm_jepa.hub.push import check_push
from llm_jepa.models.local_files import check_local_model
from llm_jepa.recipe import Recipe
from llm_jepa.runs.output_directory import (
    check_checkpoint_settings,
    check_output_directory,
    holds_complete_run,
)
from llm_jepa.training.checkpoints import check_resume
from llm_jepa.training.launch import check_deepspeed, check_processes
from llm_jepa.training.refusals import refuse_settings


def check_recipe(recipe: Recipe) -> None:
    """Check a recipe whose settings were read without error. Nothing is written here or on the Hub.

    Raises:
        ValueError: The output directory or the checkpoint belongs to another recipe, the data or the model are not
            there, a tracker is not installed, the launcher's processes do not work together, or the result could not
            be published.
    """
    settings = recipe.settings
    check_output_directory(recipe.output_dir, settings)
    if is_complete(recipe):
        return
    if settings.get("resume_from_checkpoint") is not None:
        check_checkpoint_settings(Path(settings["resume_from_checkpoint"]), settings)
    local_files(settings["dataset_name"])
    check_local_model(settings["model_name_or_path"])
    args = recipe.training
    refuse_settings(args)
    check_deepspeed(args)
    check_processes(args.world_size)
    check_resume(args)
    if args.push_to_hub and args.process_index == 0:
        check_push(settings, repository_name(args), args.hub_private_repo is not False, args.hub_token)


def is_complete(recipe: Recipe) -> bool:
    """Whether the output directory already holds the complete run of a recipe that names no checkpoint."""
    return recipe.settings.get("resume_from_checkpoint") is None and holds_complete_run(recipe.output_dir)
