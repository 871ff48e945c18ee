"""What the trainer refuses: settings and arguments without effect or support, and models and data that do not fit."""

from collections.abc import Callable
from typing import Any

from accelerate import Accelerator
from datasets import Dataset
from peft import PeftModel, TaskType
from peft.utils.other import TrainableTokensWrapper
from torch import nn
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig

from llm_jepa.config import JEPAConfig
from llm_jepa.settings.objectives import has_parameters
from llm_jepa.training.trackers import check_trackers

SPLITTING_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""Values of `device_map` by which transformers divides the layers of a model among devices."""


def refuse_settings(args: JEPAConfig) -> None:
    """Refuse settings that this installation or the trainer does not support.

    Raises:
        ValueError: `report_to` names a tracker that is unknown or not installed, `dispatch_batches` is true, or the
            process would train on several devices.
    """
    check_trackers(args.report_to)
    assert not isinstance(args.model_init_kwargs, str), "TrainingArguments parses JSON"
    refuse_several_devices(args.n_gpu, (args.model_init_kwargs or {}).get("device_map"))
    assert isinstance(args.accelerator_config, AcceleratorConfig), "TrainingArguments parses it"
    if args.accelerator_config.dispatch_batches:
        raise ValueError(
            "`dispatch_batches: true` splits a batch over the processes along its first dimension, which mixes the "
            "views of its rows. Leave it out: each process then reads its own batches."
        )


def refuse_several_devices(num_gpus: int, device_map: Any) -> None:
    """Refuse several devices in one process: transformers would divide the rows of a batch, or the layers, among them.

    Args:
        num_gpus: The GPUs of this process, as transformers counts them: those visible or, under a launcher, one.
        device_map: That of `model_init_kwargs`; None if it is not given.

    Raises:
        ValueError: There is more than one GPU, or the map names more than one device.
    """
    if num_gpus > 1:
        raise ValueError(
            f"{num_gpus} GPUs are visible, and a process trains on one. To use all, start a process for each: "
            "`accelerate launch -m llm_jepa.train RECIPE`. To use one, set `CUDA_VISIBLE_DEVICES=0`."
        )
    devices = {str(device) for device in device_map.values()} if isinstance(device_map, dict) else {str(device_map)}
    if len(devices) > 1 or device_map in SPLITTING_MAPS:
        raise ValueError(
            f"`device_map: {device_map}` divides the layers of the model among devices, and a process trains on one. "
            "Leave it out. For a model too large for one GPU use `recipes/accelerate/zero3.yaml` or `fsdp2.yaml`."
        )


def refuse_arguments(args: JEPAConfig, data_collator: Callable | None, kwargs: dict[str, Any]) -> None:
    """Refuse arguments of `SFTTrainer` that have no effect in a JEPA run.

    Raises:
        ValueError: One of them is given.
    """
    if kwargs.get("formatting_func") is not None:
        raise ValueError(
            "`formatting_func` turns a row into one text, in which the views cannot be found. Give columns instead: "
            "`source_column` and `target_column`, `prompt` and `completion`, or `messages`."
        )
    task_type = getattr(kwargs.get("peft_config"), "task_type", None)
    if task_type not in (None, TaskType.CAUSAL_LM):
        raise ValueError(
            f"`task_type` of `peft_config` is {task_type}; it must be CAUSAL_LM, or the adapter could not be loaded."
        )
    if data_collator is not None:
        raise ValueError("JEPATrainer has its own collator, which lays the views out. Leave `data_collator` out.")
    if args.from_scratch and kwargs.get("quantization_config") is not None:
        raise ValueError(
            "`from_scratch` trains random weights, which cannot be quantised. Leave `quantization_config` out."
        )
    if args.jepa_weight == 0:
        return
    if kwargs.get("compute_loss_func") is not None:
        raise ValueError("`compute_loss_func` replaces the loss that JEPA adds to. Leave it out.")
    if has_parameters(args) and (kwargs.get("optimizers") or (None,))[0] is not None:
        raise ValueError(
            "An optimizer that is built beforehand does not have the objective's own parameters and would never train "
            "them. Give `optimizer_cls_and_kwargs` instead of `optimizers`."
        )


def refuse_prompt_learning(model: nn.Module) -> None:
    """Refuse adapters that put virtual tokens before every sequence.

    Raises:
        ValueError: The adapter is a prompt-learning one.
    """
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        raise ValueError(
            f"{type(model.active_peft_config).__name__} is prompt learning: its virtual tokens would come before the "
            "conversation but not before the views. Use LoRA or another adapter of the weights."
        )


def refuse_attention_without_backward(model: PreTrainedModel, device_type: str) -> None:
    """Refuse an attention back-end that has no backward pass on this device.

    Raises:
        ValueError: It is FlexAttention on a CPU.
    """
    if device_type == "cpu" and model.config._attn_implementation == "flex_attention":
        raise ValueError("`attn_implementation: flex_attention` has no backward on the CPU; use `sdpa`.")


def refuse_trained_output_tokens(model: nn.Module) -> None:
    """Refuse an adapter that trains single tokens of the output layer, which TRL's fused loss cannot read.

    Raises:
        ValueError: The embeddings are tied, and tokens have been added or named.
    """
    if isinstance(model, PeftModel) and isinstance(model.get_output_embeddings(), TrainableTokensWrapper):
        raise ValueError(
            "An adapter cannot train single tokens of tied embeddings. `trainable_token_indices` asks for that, and "
            "so does a `chat_template_path` that is a model, whose tokens are added. Give the template as a `.jinja` "
            "file, or leave `use_peft` out."
        )


def refuse_parallelism(accelerator: Accelerator) -> None:
    """Refuse parallelism that splits a row.

    Raises:
        ValueError: Context, sequence or tensor parallelism is on.
    """
    parallelism = accelerator.parallelism_config
    if parallelism is not None and (parallelism.cp_enabled or parallelism.sp_enabled or parallelism.tp_enabled):
        raise ValueError(
            "Context, sequence and tensor parallelism split a row, and thus its views, over processes. Use data "
            "parallelism: DDP, DeepSpeed ZeRO or FSDP."
        )


def refuse_fewer_rows_than_processes(num_processes: int, train_dataset: Any) -> None:
    """Refuse data with fewer rows than processes: two processes would compute the same row.

    Raises:
        ValueError: The data have fewer rows. A stream passes.
    """
    if isinstance(train_dataset, Dataset) and len(train_dataset) < num_processes:
        raise ValueError(
            f"The training data have {len(train_dataset)} rows for {num_processes} processes. Start fewer processes, "
            "or give more rows."
        )


def refuse_fewer_rows_than_a_batch(args: TrainingArguments, num_processes: int, train_dataset: Any) -> None:
    """Refuse data of which `dataloader_drop_last` would drop every row.

    Raises:
        ValueError: The data have fewer rows than a batch of all processes. A stream passes.
    """
    batch_size = args.train_batch_size * num_processes
    if args.dataloader_drop_last and isinstance(train_dataset, Dataset) and len(train_dataset) < batch_size:
        raise ValueError(
            f"The training data have {len(train_dataset)} rows, fewer than the batch of {batch_size}, which "
            "`dataloader_drop_last: true` would drop. Leave it out, or set a smaller `per_device_train_batch_size`."
        )


def refuse_untrained_model(model: nn.Module) -> None:
    """Refuse a model of which no weight would be trained: the predictor alone would be.

    Raises:
        ValueError: No parameter requires a gradient.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            "Nothing of the model would be trained: none of its weights requires a gradient. Load an adapter with "
            "`PeftModel.from_pretrained(..., is_trainable=True)`, or give `peft_config` for a new one."
        )


def refuse_untrained_backbone(model: PreTrainedModel) -> None:
    """Refuse a model whose averaged weights would never move: nothing is trained below its LM head.

    Raises:
        ValueError: No parameter of the backbone requires a gradient.
    """
    if not any(parameter.requires_grad for parameter in model.base_model.parameters()):
        raise ValueError(
            "`jepa_target: ema` averages the trained weights below the LM head, and none is trained there. Train "
            "some, or set `jepa_target: stop_gradient`, which gives the same target."
        )
