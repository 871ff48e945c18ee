"""The processes that a launcher starts: checks that they train as asked, their device, their end."""

import os

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from transformers import Trainer, TrainingArguments


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
        ValueError: Batch size, accumulation or clipping differ.
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
