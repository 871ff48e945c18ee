"""Trains one recipe: read, refuse, build, run, publish.

`llm-jepa train`, `accelerate launch -m llm_jepa.train` and executable recipes run this.
"""

import logging
import sys
from collections.abc import Sequence

from transformers import TrainerCallback
from trl import get_peft_config, get_quantization_config

from llm_jepa.data.loading import load_split, stream_errors_explained
from llm_jepa.entry import entry_point
from llm_jepa.hub.publishing_trainer import publish
from llm_jepa.models.known_models import model_origin, resolve_model
from llm_jepa.models.loading import model_init_kwargs
from llm_jepa.preflight import check_run, is_complete
from llm_jepa.recipe import Recipe, parse_recipe
from llm_jepa.runs.output_directory import output_directory_lock
from llm_jepa.runs.record import record_start
from llm_jepa.trainer import JEPATrainer
from llm_jepa.training.checkpoints import checkpoint_to_resume, remove_partial_checkpoints, write_errors_explained
from llm_jepa.training.interruption import Terminated, checkpoint_on_signal
from llm_jepa.training.launch import check_distributed_type, destroy_process_group, device_name

logger = logging.getLogger("llm_jepa.train")  # also when this module runs as __main__


def main(argv: list[str] | None = None) -> None:
    """Train the recipe that the command line names."""
    with entry_point():
        train(parse_recipe(sys.argv[1:] if argv is None else argv))


def train(recipe: Recipe, callbacks: Sequence[TrainerCallback] = ()) -> JEPATrainer | None:
    """Train a recipe, or resume an interrupted run of it; the model or adapter is in its `output_dir` then.

    Args:
        callbacks: For the trainer, beside its own.

    Returns:
        The trainer; None if the output directory already holds the complete run. `push_to_hub` publishes either.

    Raises:
        ValueError: The recipe is refused (`llm_jepa.preflight`) and nothing has been written, or a line of a stream
            cannot be read.
        WriteError: A checkpoint or the model could not be written.
        Terminated: SIGTERM or Ctrl-C came, and a checkpoint has been saved.
    """
    check_run(recipe)
    if is_complete(recipe.settings):
        _publish_complete_run(recipe)
        return None
    checkpoint = checkpoint_to_resume(recipe.training)
    trainer = build_trainer(recipe, callbacks)
    check_distributed_type(trainer.accelerator)
    with output_directory_lock(recipe.output_dir, trainer.is_world_process_zero()):
        try:
            _run(trainer, recipe, checkpoint)
        except Terminated:
            trainer.accelerator.wait_for_everyone()
            destroy_process_group(trainer)
            raise
        if recipe.training.push_to_hub:
            trainer.publish()
        destroy_process_group(trainer)
    return trainer


def build_trainer(recipe: Recipe, callbacks: Sequence[TrainerCallback] = ()) -> JEPATrainer:
    """Load the data and the model of a recipe, and build its trainer."""
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
        callbacks=list(callbacks),
    )


def _run(trainer: JEPATrainer, recipe: Recipe, checkpoint: str | None) -> None:
    """Record the run, train it and save the model."""
    output_dir = recipe.output_dir
    if trainer.args.should_save:
        remove_partial_checkpoints(output_dir)
    if trainer.is_world_process_zero():
        origin = model_origin(resolve_model(recipe.settings["model_name_or_path"], recipe.model.model_revision))
        device, num_processes = device_name(trainer.args.device), trainer.accelerator.num_processes
        record_start(output_dir, recipe.settings, device, num_processes, origin)
    if checkpoint is not None:
        logger.info(f"Resuming from {checkpoint}.")
    with checkpoint_on_signal(trainer), stream_errors_explained(recipe.script):
        trainer.train(resume_from_checkpoint=checkpoint)
        with write_errors_explained("The model", output_dir):
            trainer.save_model(str(output_dir))
            trainer.save_state()  # last, since it marks the run as complete
    logger.info(f"{'Adapter' if recipe.model.use_peft else 'Model'} saved to {output_dir}.")


def _publish_complete_run(recipe: Recipe) -> None:
    publishes = recipe.training.push_to_hub
    rest = "it is published" if publishes else "nothing to do"
    logger.info(f"{recipe.output_dir} already holds the complete run; {rest}.")
    if publishes and recipe.training.process_index == 0:
        publish(recipe.training)


if __name__ == "__main__":
    main()
