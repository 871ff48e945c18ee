"""Keeps 16-bit and 4-bit weights trainable, and evaluates them in the precision of training."""

import torch
from torch import nn


def keep_fp32_master_weights(model: nn.Module) -> None:
    """Convert trainable 16-bit weights to float32: in 16 bits, most updates of a small learning rate round to zero."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()


def keep_4_bit_weights_unpacked(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights in evaluation, as it does on CPUs with AVX512-BF16.

    Repacked weights have no gradient, and compute in bfloat16 whatever the precision of training.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 (no attribute of Module)
