"""Trains one recipe: read, refuse, build, run, publish.

`llm-jepa train`, `accelerate launch -m llm_jepa.train` and executable recipes run this. What takes seconds to import
is imported in the functions, so that a wrong recipe is refused at once.
"""

import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_jepa.entry import entry_point, imports_uncollected
from llm_jepa.preflight import check_command_line, check_run, is_complete
from llm_jepa.runs.output_directory import output_directory_lock
from llm_jepa.runs.record import record_start
from llm_jepa.training.checkpoints import checkpoint_to_resume, remove_partial_checkpoints

if TYPE_CHECKING:
    from typing import TypeAlias

    from transformers import TrainerCallback

    from llm_jepa.recipe import Recipe
    from llm_jepa.trainer import JEPATrainer
    from llm_jepa.vision.base_trainer import PictureQuestionTrainer
    from llm_jepa.vision.recipe import VisionRecipe

    AnyRecipe: TypeAlias = Recipe | VisionRecipe
    AnyTrainer: TypeAlias = JEPATrainer | PictureQuestionTrainer

logger = logging.getLogger("llm_jepa.train")  # also when this module runs as __main__


def main(argv: list[str] | None = None) -> None:
    """Train the recipe that the command line names."""
    with entry_point():
        argv = sys.argv[1:] if argv is None else argv
        check_command_line(argv)
        with imports_uncollected():
            from llm_jepa.vision.recipe import parse_any_recipe

        train(parse_any_recipe(argv))


def train(recipe: "AnyRecipe", callbacks: Sequence["TrainerCallback"] = ()) -> "AnyTrainer | None":
    """Train a recipe, of text or of VL-JEPA, or resume an interrupted run of it.

    The model or adapter is in its `output_dir` then.

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
    from llm_jepa.training.interruption import Terminated
    from llm_jepa.training.launch import check_distributed_type, destroy_process_group

    trainer = build_any_trainer(recipe, callbacks)
    check_distributed_type(trainer.accelerator)
    with output_directory_lock(recipe.output_dir, trainer.is_world_process_zero()):
        has_ended, checkpoint = _progress(recipe)
        if has_ended:
            _publish_complete_run(recipe)
            destroy_process_group(trainer)
            return None
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


def build_any_trainer(recipe: "AnyRecipe", callbacks: Sequence["TrainerCallback"] = ()) -> "AnyTrainer":
    """Load the data and the model of a recipe, and build its trainer."""
    from llm_jepa.recipe import Recipe
    from llm_jepa.vision.building import build_vision_trainer

    return build_trainer(recipe, callbacks) if isinstance(recipe, Recipe) else build_vision_trainer(recipe, callbacks)


def build_trainer(recipe: "Recipe", callbacks: Sequence["TrainerCallback"] = ()) -> "JEPATrainer":
    """Load the data and the model of a recipe, and build its trainer."""
    from trl import get_peft_config, get_quantization_config

    from llm_jepa.data.column_mapping import ColumnMapping
    from llm_jepa.data.loading import load_split
    from llm_jepa.data.row_lines import row_errors_located
    from llm_jepa.data.rows import check_columns
    from llm_jepa.models.adapter_targets import check_adapter_targets
    from llm_jepa.models.known_models import resolve_model
    from llm_jepa.models.loading import meta_model, model_init_kwargs
    from llm_jepa.trainer import JEPATrainer
    from llm_jepa.training.build_errors import build_errors_explained

    script, model, training = recipe.script, recipe.model, recipe.training
    training.model_init_kwargs = model_init_kwargs(recipe)
    with training.main_process_first(desc="loading of data and model"):
        train_dataset = load_split(script, script.dataset_train_split)
        evaluates = training.eval_strategy != "no"
        eval_dataset = load_split(script, script.dataset_test_split) if evaluates else None
        model_path = resolve_model(recipe.settings["model_name_or_path"], model.model_revision)
    mapping = ColumnMapping.from_args(training)
    check_columns(train_dataset, mapping)
    peft_config = get_peft_config(model)
    if peft_config is not None:
        with build_errors_explained(model_path):
            check_adapter_targets(meta_model(recipe, model_path), peft_config)
    loaded = {"train": (script.dataset_train_split, train_dataset), "eval": (script.dataset_test_split, eval_dataset)}
    with row_errors_located(script, loaded, mapping):
        return JEPATrainer(
            model=model_path,
            args=training,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            quantization_config=get_quantization_config(model),
            peft_config=peft_config,
            callbacks=list(callbacks),
        )


def _progress(recipe: "AnyRecipe") -> tuple[bool, str | None]:
    """Whether the run is complete, and the checkpoint to resume from, the same in all processes.

    Asked under the lock: another start may have gone on with the run while this one built its trainer.
    """
    from accelerate.utils import broadcast_object_list

    has_ended, checkpoint = broadcast_object_list(
        [is_complete(recipe.settings), checkpoint_to_resume(recipe.settings)]
    )
    return has_ended, checkpoint


def _run(trainer: "AnyTrainer", recipe: "AnyRecipe", checkpoint: str | None) -> None:
    """Record the run, train it and save the model."""
    from llm_jepa.data.file_record import record_files
    from llm_jepa.data.loading import stream_errors_explained
    from llm_jepa.models.known_models import model_origin, resolve_model
    from llm_jepa.training.build_errors import build_errors_explained
    from llm_jepa.training.interruption import checkpoint_on_signal
    from llm_jepa.training.launch import device_name
    from llm_jepa.training.write_errors import write_errors_explained

    output_dir = recipe.output_dir
    if trainer.args.should_save:
        remove_partial_checkpoints(output_dir)
    if trainer.is_world_process_zero():
        origin = model_origin(resolve_model(*recipe.base))
        device, num_processes = device_name(trainer.args.device), trainer.accelerator.num_processes
        is_plain = getattr(trainer, "has_plain_prompts", False)  # VL-JEPA's questions have no such form
        files = record_files(recipe.settings)
        record_start(output_dir, recipe.settings, device, num_processes, origin, files, is_plain)
    if checkpoint is not None:
        logger.info(f"Resuming from {checkpoint}.")
    with checkpoint_on_signal(trainer), stream_errors_explained(recipe.source):
        with build_errors_explained(recipe.base[0]):
            trainer.train(resume_from_checkpoint=checkpoint)
        with write_errors_explained("The model", output_dir):
            trainer.save_model(str(output_dir))
            trainer.save_state()  # last, since it marks the run as complete
    logger.info(f"{'Adapter' if recipe.settings.get('use_peft') else 'Model'} saved to {output_dir}.")


def _publish_complete_run(recipe: "AnyRecipe") -> None:
    publishes = recipe.training.push_to_hub
    rest = "it is published" if publishes else "nothing to do"
    logger.info(f"{recipe.output_dir} already holds the complete run; {rest}.")
    if publishes and recipe.training.process_index == 0:
        from llm_jepa.hub.publishing_trainer import publish

        publish(recipe.training)


if __name__ == "__main__":
    main()
