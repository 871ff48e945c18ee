"""Trains one recipe: what `llm-jepa train`, `accelerate launch -m llm_jepa.train` and executable recipes run."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from datasets.exceptions import DatasetGenerationError
from filelock import FileLock, Timeout
from transformers.trainer import TRAINER_STATE_NAME
from trl import get_peft_config, get_quantization_config

from llm_jepa.config import JEPAConfig
from llm_jepa.data.loading import check_text_files, load_split
from llm_jepa.entry import entry_point
from llm_jepa.files.atomic import partial_path
from llm_jepa.hub.publishing_trainer import publish, repository_name
from llm_jepa.hub.push import check_push
from llm_jepa.models.known_models import model_origin, resolve_model
from llm_jepa.models.loading import model_init_kwargs
from llm_jepa.recipe import Recipe, parse_recipe, write_recipe
from llm_jepa.runs.record import (
    KEYS_WITHOUT_EFFECT_ON_RESULT,
    RECIPE_FILE,
    SCORING_KEYS,
    SECRET_KEYS,
    write_environment,
)
from llm_jepa.settings.reading import read_settings
from llm_jepa.trainer import JEPATrainer
from llm_jepa.training.checkpoints import checkpoint_to_resume, is_complete, remove_torn, write_errors_explained
from llm_jepa.training.interruption import Terminated, saved_when_asked_to_end

logger = logging.getLogger("llm_jepa.train")  # also when this module runs as __main__


LOCK_FILE = "run.lock"
"""In an output directory: held by the run that trains there."""


def main(argv: list[str] | None = None) -> None:
    """Train the recipe that the command line names."""
    with entry_point():
        train(parse_recipe(sys.argv[1:] if argv is None else argv))


def train(recipe: Recipe) -> JEPATrainer | None:
    """Train a recipe, or take up where an interrupted run of it stopped; the model or adapter is in its `output_dir`.

    Returns:
        The trainer, or None when the output directory already holds the complete run, which `push_to_hub` publishes.

    Raises:
        ValueError: The output directory is another recipe's, the data cannot be loaded, or the launcher's settings
            were not followed; nothing has been written then. Or a stream has come to a line that cannot be read.
        WriteError: A checkpoint or the model could not be written.
        Terminated: SIGTERM or Ctrl-C came, and a checkpoint has been saved.
    """
    output_dir = recipe.output_dir
    check_deepspeed(recipe.training)
    check_output_directory(output_dir, recipe.settings)
    if is_complete(output_dir) and recipe.training.resume_from_checkpoint is None:
        rest = "it is published" if recipe.training.push_to_hub else "nothing to do"
        logger.info(f"{output_dir} already holds the complete run; {rest}.")
        if recipe.training.push_to_hub and recipe.training.process_index == 0:
            publish(recipe.training)
        return None
    if recipe.training.resume_from_checkpoint is not None:
        check_checkpoint(Path(recipe.training.resume_from_checkpoint), recipe.settings)
    checkpoint = checkpoint_to_resume(recipe.training)
    if recipe.training.push_to_hub and recipe.training.process_index == 0:
        is_private = recipe.training.hub_private_repo is not False
        check_push(recipe.settings, repository_name(recipe.training), is_private, recipe.training.hub_token)
    trainer = build_trainer(recipe)
    check_launch(trainer.accelerator)
    with alone_in(output_dir, trainer.is_world_process_zero()):
        _run(trainer, recipe, checkpoint)
    return trainer


def _run(trainer: JEPATrainer, recipe: Recipe, checkpoint: str | None) -> None:
    output_dir = recipe.output_dir
    if trainer.args.should_save:
        remove_torn(output_dir)
    if trainer.is_world_process_zero():
        write_recipe(_without(SECRET_KEYS, recipe.settings), output_dir / RECIPE_FILE)
        origin = model_origin(resolve_model(recipe.settings["model_name_or_path"], recipe.model.model_revision))
        device, num_processes = device_name(trainer.args.device), trainer.accelerator.num_processes
        write_environment(output_dir, recipe.settings, device, num_processes, origin)
        (output_dir / TRAINER_STATE_NAME).unlink(missing_ok=True)  # no longer complete
    if checkpoint is not None:
        logger.info(f"Resuming from {checkpoint}.")
    try:
        with saved_when_asked_to_end(trainer):
            trainer.train(resume_from_checkpoint=checkpoint)
            with write_errors_explained("The model", output_dir):
                trainer.save_model(str(output_dir))
                trainer.save_state()  # last of all: it marks the run as complete
    except (UnicodeDecodeError, DatasetGenerationError):
        check_text_files(recipe.script)  # of a stream, a bad line is met only now
        raise
    except Terminated:
        trainer.accelerator.wait_for_everyone()
        leave(trainer)
        raise
    logger.info(f"{'Adapter' if recipe.model.use_peft else 'Model'} saved to {output_dir}.")
    if recipe.training.push_to_hub:
        trainer.publish()
    leave(trainer)


@contextmanager
def alone_in(output_dir: Path, is_main_process: bool) -> Iterator[None]:
    """Keep a second run out of an output directory while this one trains; a kill opens it again.

    Raises:
        ValueError: Another run is at work there.
    """
    if not is_main_process:
        yield
        return
    output_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output_dir / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"Another run is training in `output_dir: {output_dir}`. Wait for its end, or give another one."
        ) from error
    try:
        yield
    finally:
        lock.release()


def leave(trainer: JEPATrainer) -> None:
    """Finish the trackers and leave the process group, which nothing may outlive.

    A wrapper for several processes would be the group's last holder, and letting go of a gloo group from there waits
    for a thread of the group that waits for the interpreter: the process would hang now and then, its work done.
    """
    trainer.model_wrapped = trainer.model
    trainer.accelerator.free_memory()
    trainer.end()


def device_name(device: torch.device) -> str:
    """The name of the device's model, or `CPU`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def build_trainer(recipe: Recipe) -> JEPATrainer:
    """The trainer of a recipe, its data and model loaded."""
    script, model, training = recipe.script, recipe.model, recipe.training
    training.model_init_kwargs = model_init_kwargs(recipe)
    with training.main_process_first(desc="loading of data and model"):
        train_dataset = load_split(script, script.dataset_train_split)
        evaluates = training.eval_strategy != "no"
        eval_dataset = load_split(script, script.dataset_test_split) if evaluates else None
        model_path = resolve_model(recipe.settings["model_name_or_path"], model.model_revision)
    return JEPATrainer(
        model=model_path,
        args=training,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
    )


def check_output_directory(directory: Path, settings: dict[str, Any]) -> None:
    """Accept a directory that is not there, is empty, or belongs to a run of the same settings.

    Raises:
        ValueError: It holds anything else; the message shows which settings differ.
    """
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ValueError(f"`output_dir: {directory}` is a file. Name a directory.")
    of_a_run_that_hardly_began = {LOCK_FILE, partial_path(directory / RECIPE_FILE).name}
    if {path.name for path in directory.iterdir()} <= of_a_run_that_hardly_began:
        return
    advice = "Nothing was overwritten. Give another `output_dir`, or move this one away."
    if not (directory / RECIPE_FILE).is_file():
        raise ValueError(f"`output_dir: {directory}` is not empty and holds no run ({RECIPE_FILE}). {advice}")
    differences = _differences(directory, settings)
    if differences:
        raise ValueError(f"`output_dir: {directory}` holds a run with other settings: {differences}. {advice}")


def check_checkpoint(checkpoint: Path, settings: dict[str, Any]) -> None:
    """Accept a checkpoint that was asked for if its run, where it lies in one, has the same settings.

    Raises:
        ValueError: It is another recipe's; the message shows which settings differ.
    """
    run = checkpoint.parent
    differences = _differences(run, settings) if (run / RECIPE_FILE).is_file() else ""
    if differences:
        raise ValueError(
            f"`resume_from_checkpoint: {checkpoint}` is of a run with other settings: {differences}. Give those of "
            "that run, or start anew without it."
        )


def _differences(run: Path, settings: dict[str, Any]) -> str:
    """Which settings of a run differ from these, of those that have an effect on its result."""
    ignored = KEYS_WITHOUT_EFFECT_ON_RESULT | SCORING_KEYS
    if settings.get("eval_strategy", "no") == "no":
        ignored |= {"dataset_test_split"}
    there, here = _without(ignored, read_settings(run / RECIPE_FILE)), _without(ignored, settings)
    return "; ".join(
        f"`{key}` is {_shown(there, key)} there and {_shown(here, key)} here"
        for key in here | there
        if (key in here, here.get(key)) != (key in there, there.get(key))
    )


def check_deepspeed(args: JEPAConfig) -> None:
    """Refuse a DeepSpeed configuration that says otherwise than the recipe; transformers would, the model once loaded.

    Raises:
        ValueError: Batch, accumulation or clipping differ.
    """
    plugin = getattr(args, "deepspeed_plugin", None)
    if plugin is None:
        return
    wanted = {
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "train_micro_batch_size_per_gpu": args.per_device_train_batch_size,
        "gradient_clipping": args.max_grad_norm,
    }
    for key, value in wanted.items():
        given = plugin.deepspeed_config.get(key, "auto")
        if given not in ("auto", None, value):
            raise ValueError(
                f"`{key}` is {given} in the DeepSpeed configuration and {value} in the recipe. Write `auto` there, "
                "which takes the recipe's."
            )


def check_launch(accelerator: Accelerator) -> None:
    """Refuse to run when accelerate does not do what its launcher was told, which it passes over in silence."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != processes:
        raise ValueError(
            f"The launcher started {processes} processes that do not work together: each sees "
            f"{accelerator.num_processes}. Look at `use_cpu` and `ddp_backend` in the recipe and `distributed_type` "
            "in the launcher's configuration."
        )
    for variable, wanted in (
        ("ACCELERATE_USE_DEEPSPEED", DistributedType.DEEPSPEED),
        ("ACCELERATE_USE_FSDP", DistributedType.FSDP),
    ):
        if os.environ.get(variable, "false").lower() == "true" and accelerator.distributed_type != wanted:
            raise ValueError(
                f"The launcher's configuration asks for {wanted.value}, and training would run as "
                f"{accelerator.distributed_type.value}. On a CPU leave `use_cpu` out of the recipe."
            )


def _without(keys: frozenset[str], settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in keys}


def _shown(settings: dict[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "not given"


if __name__ == "__main__":
    main()
