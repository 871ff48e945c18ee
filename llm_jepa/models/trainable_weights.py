"""Keeps 16-bit and 4-bit weights trainable, and evaluates them in the precision of training."""

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

SIXTEEN_BIT = (torch.bfloat16, torch.float16)


def refuse_two_precisions(model: nn.Module, mixed_precision: str) -> None:
    """Refuse weights that are trained in float32 between frozen 16-bit ones, where no autocast makes them agree.

    Args:
        model: Before its trained weights become float32. LoRA converts what it is given.
        mixed_precision: The accelerator's, such as `no` or `bf16`.

    Raises:
        ValueError: Both are there.
    """
    if mixed_precision != "no":
        return
    converting = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    of_adapters = {id(parameter) for module in converting for parameter in module.parameters()}
    half = [(name, weight) for name, weight in model.named_parameters() if weight.dtype in SIXTEEN_BIT]
    trained = [name for name, weight in half if weight.requires_grad and id(weight) not in of_adapters]
    if trained and not all(weight.requires_grad for _, weight in half):
        raise ValueError(
            f"`{trained[0]}` is trained in float32, and frozen weights are in 16 bits: they compute together under "
            "`bf16: true` alone. Set it, or `dtype: float32`."
        )


def keep_fp32_master_weights(model: nn.Module) -> None:
    """Convert trainable 16-bit weights to float32: in 16 bits, most updates of a small learning rate round to zero."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in SIXTEEN_BIT:
            parameter.data = parameter.data.float()


def keep_4_bit_weights_unpacked(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights in evaluation, as it does on CPUs with AVX512-BF16.

    Repacked weights have no gradient, and compute in bfloat16 whatever the precision of training.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 (no attribute of Module)
