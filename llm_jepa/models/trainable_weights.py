"""What keeps weights trainable, in precision and in gradient, and evaluated as they were trained."""

import torch
from torch import nn


def keep_fp32_master_weights(model: nn.Module) -> None:
    """Train in float32 what would train in 16 bits, where most updates of a small learning rate round to nothing."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()


def keep_4_bit_weights_unpacked(model: nn.Module) -> None:
    """On CPUs with AVX512-BF16, bitsandbytes would repack 4-bit weights at the first forward in evaluation.

    From then on nothing trains, and they are computed with in bfloat16, whatever they were trained in.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 (no attribute of Module)
