"""The processes that a launcher starts: checks that they train as asked, their device, their end."""

import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from transformers import Trainer, TrainingArguments

from llm_jepa.settings.vision_checks import EMBEDDING_OPTIONS

RATES_OF_PARTS = {
    "predictor_learning_rate": (None,),
    "vision_encoder_learning_rate_factor": (0, 1),
    "text_encoder_learning_rate_factor": (0, 1),
}
"""Option that gives a part of the model a learning rate of its own -> its values that do not."""
SCALING = "WarmupCosineLR"
"""DeepSpeed's schedule that scales the learning rates of the parts; its others set all to one."""


def check_processes(world_size: int) -> None:
    """Check that the processes of the launcher form one group. accelerate does not say when they do not.

    Args:
        world_size: Processes of the group.

    Raises:
        ValueError: The group has fewer processes than the launcher started.
    """
    num_started = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size != num_started:
        raise ValueError(
            f"The launcher started {num_started} processes that do not work together: each sees {world_size}. "
            "Check `use_cpu` and `ddp_backend` in the recipe and `distributed_type` in the "
            "launcher's configuration."
        )


def check_distributed_type(accelerator: Accelerator) -> None:
    """Check that DeepSpeed or FSDP is used where the launcher asks for it. accelerate does not say when it is not.

    Raises:
        ValueError: Training would run without it.
    """
    for variable, wanted in (
        ("ACCELERATE_USE_DEEPSPEED", DistributedType.DEEPSPEED),
        ("ACCELERATE_USE_FSDP", DistributedType.FSDP),
    ):
        if os.environ.get(variable, "false").lower() == "true" and accelerator.distributed_type != wanted:
            raise ValueError(
                f"The launcher's configuration asks for {wanted.value}, but training would run as "
                f"{accelerator.distributed_type.value}. On a CPU, leave `use_cpu` out of the recipe."
            )


def check_deepspeed(args: TrainingArguments) -> None:
    """Check that a DeepSpeed configuration agrees with the recipe. transformers checks it after loading the model.

    Raises:
        ValueError: Batch size, accumulation or clipping differ; or the configuration has an optimizer or a schedule
            with one learning rate, and the recipe gives several.
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
                f"`{key}` is {given} in the DeepSpeed configuration and {value} in the recipe. Write `auto` in the "
                "configuration to use the recipe's value."
            )
    _check_one_rate(args, plugin.deepspeed_config)


def _check_one_rate(args: TrainingArguments, config: dict[str, Any]) -> None:
    """Refuse learning rates of parts where DeepSpeed builds an optimizer, or a schedule, that has one for all."""
    is_idle = getattr(args, "jepa_weight", 1) == 0
    given = [name for name, without in RATES_OF_PARTS.items() if getattr(args, name, without[0]) not in without]
    if getattr(args, "answer_form", None) == "tokens":
        given = [name for name in given if name not in EMBEDDING_OPTIONS]
    schedule = (config.get("scheduler") or {}).get("type", SCALING)
    own = ["optimizer"] * bool(config.get("optimizer")) + ["scheduler"] * (schedule != SCALING)
    if given and own and not is_idle:
        raise ValueError(
            f"`{given[0]}: {getattr(args, given[0])}` has no effect: `{own[0]}` of the DeepSpeed configuration has "
            f"one learning rate for all weights. Leave `{own[0]}` out of the configuration; the recipe's is used."
        )


def device_name(device: torch.device) -> str:
    """The model name of a GPU; for other devices their type, e.g. `CPU`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def destroy_process_group(trainer: Trainer) -> None:
    """Finish the trackers and destroy the process group explicitly; gloo can hang at exit.

    The model's wrapper holds the group too, so it is dropped first: whoever drops the last reference to a gloo group
    waits for one of its threads, and at exit that thread waits for the interpreter.
    """
    assert trainer.model is not None
    trainer.model_wrapped = trainer.model
    trainer.accelerator.free_memory()
    trainer.end()
