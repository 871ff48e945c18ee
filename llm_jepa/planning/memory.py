"""Bytes of weights, gradients and optimizer on one device, by arithmetic.

Legend: P trained parameters, G devices, w, g, s bytes of a parameter's weight, gradient and optimizer state.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Launch = Literal["single", "multi-gpu", "zero1", "zero2", "zero3", "zero3-offload", "fsdp2"]
LAUNCHES: tuple[Launch, ...] = get_args(Launch)
"""How training is launched: the files of recipes/accelerate/."""

_ADAM_BYTES = 8.0
_ADAM_8BIT_BYTES = 2 + 2 * 4 / 256
"""Two moments of a byte, and for each of them a float32 scale per block of 256."""

OPTIMIZER_BYTES = {
    "adamw_torch": _ADAM_BYTES,
    "adamw_torch_fused": _ADAM_BYTES,
    "adamw_bnb_8bit": _ADAM_8BIT_BYTES,
    "adamw_8bit": _ADAM_8BIT_BYTES,
    "paged_adamw_8bit": _ADAM_8BIT_BYTES,
    "paged_adamw_32bit": _ADAM_BYTES,
    "paged_adamw": _ADAM_BYTES,
    "lion_32bit": 4.0,
    "lion_8bit": 1 + 4 / 256,
    "sgd": 0.0,
}
"""`optim` -> bytes of state per trained parameter."""


@dataclass(frozen=True)
class Weights:
    """What a model's weights take before they are spread over devices.

    Attributes:
        weight_bytes: Of all parameters and buffers.
        trained_parameters: P.
        gradient_bytes: Of all gradients.
        block_bytes: Of the largest part that is gathered at once: a layer, or the embedding.
    """

    weight_bytes: float
    trained_parameters: int
    gradient_bytes: float
    block_bytes: float


@dataclass(frozen=True)
class States:
    """Bytes on one device that last for the whole of training, and the share of a gradient that it keeps.

    `communication` is what gradients and weights are gathered in.
    """

    weights: float
    optimizer: float
    gradient_share: float
    communication: float


def keeps_half_weights(launch: Launch) -> bool:
    """Whether weights are kept in 16 bits where mixed precision is asked for, float32 copies among the optimizer's."""
    return launch.startswith("zero") or launch == "fsdp2"


def states(weights: Weights, optim: str, launch: Launch, num_devices: int, is_half: bool) -> States:
    """What a launcher keeps on each device.

        single, multi-gpu   w P + s P                       (several devices: and as much again as the gradients,
                                                             in which DDP gathers them)
        zero1               w P + (s + 4) P / G             4: float32 copies of weights kept in 16 bits
        zero2               the same, and gradients / G
        zero3, fsdp2        the same, and weights / G       (and two blocks, one in use and one on its way)
        zero3-offload       weights and optimizer in the host's memory, two blocks on the device

    ZeRO: Rajbhandari et al. 2019, arXiv 1910.02054, section 3.

    Raises:
        ValueError: The optimizer is unknown here.
    """
    if optim not in OPTIMIZER_BYTES:
        raise ValueError(f"What `optim: {optim}` keeps is not known here. Known are {', '.join(OPTIMIZER_BYTES)}.")
    master = 4 * weights.trained_parameters if is_half and keeps_half_weights(launch) else 0
    optimizer = OPTIMIZER_BYTES[optim] * weights.trained_parameters + master
    share = 1 / num_devices
    if launch in ("single", "multi-gpu"):
        return States(weights.weight_bytes, optimizer, 1.0, weights.gradient_bytes if num_devices > 1 else 0.0)
    if launch == "zero1":
        return States(weights.weight_bytes, optimizer * share, 1.0, 0.0)
    if launch == "zero2":
        return States(weights.weight_bytes, optimizer * share, share, 0.0)
    if launch == "zero3-offload":
        return States(0.0, 0.0, share, 2 * weights.block_bytes)
    return States(weights.weight_bytes * share, optimizer * share, share, 2 * weights.block_bytes)
