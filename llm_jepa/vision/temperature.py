"""The learned temperature of InfoNCE, bounded as CLIP bounds it."""

import math
from typing import Any

import torch
from torch import Tensor

from llm_jepa.settings.vision_checks import MIN_TEMPERATURE


class _AtLeast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, bound: float) -> Tensor:
        ctx.is_below = value < bound
        return value.clamp(min=bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient.masked_fill(ctx.is_below & (gradient > 0), 0), None


def bounded_temperature(log_temperature: Tensor) -> Tensor:
    """exp(log_temperature), at least 0.01, so that cosines are multiplied by at most 100 (CLIP, arXiv 2103.00020).

    Below the bound a gradient that would lead further down is 0. One that leads up passes, so that the temperature can
    rise again; a plain clamp would stop it too.
    """
    return _AtLeast.apply(log_temperature, math.log(MIN_TEMPERATURE)).exp()
