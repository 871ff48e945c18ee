"""Calculates the bytes of weights, gradients and optimizer on one device.

Legend: P trained parameters, G devices, w, g, s bytes of a parameter's weight, gradient and optimizer state.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Launch = Literal["single", "multi-gpu", "zero1", "zero2", "zero3", "zero3-offload", "fsdp2"]
LAUNCHES: tuple[Launch, ...] = get_args(Launch)
"""The launch files of recipes/accelerate/."""

_SCALE_BYTES = 4 / 256
"""Overhead per 8-bit state: one float32 for each block of 256."""

OPTIMIZER_BYTES = {
    "adamw_torch": 8.0,
    "adamw_torch_fused": 8.0,
    "adamw_bnb_8bit": 2 * (1 + _SCALE_BYTES),
    "adamw_8bit": 2 * (1 + _SCALE_BYTES),
    "paged_adamw_8bit": 2 * (1 + _SCALE_BYTES),
    "paged_adamw_32bit": 8.0,
    "paged_adamw": 8.0,
    "lion_32bit": 4.0,
    "lion_8bit": 1 + _SCALE_BYTES,
    "sgd": 0.0,
}
"""`optim` -> bytes of state per trained parameter."""

OPTIMIZER_IN_32_BITS = {
    "adamw_bnb_8bit": "adamw_torch",
    "adamw_8bit": "adamw_torch",
    "paged_adamw_8bit": "adamw_torch",
} | {"lion_8bit": "lion_32bit"}
BUCKET_NUMBERS = 500_000_000
"""DeepSpeed's `reduce_bucket_size` and `allgather_bucket_size`, unless its configuration says otherwise."""

SMALLEST_8BIT_PARAMETERS = 4096
"""bitsandbytes keeps 32-bit states for smaller tensors and for embeddings."""


@dataclass(frozen=True)
class Weights:
    """Bytes of a model's weights before they are partitioned over devices.

    Attributes:
        weight_bytes: Bytes of all parameters and buffers.
        quantised_bytes: Bytes of the quantised ones, which no launcher partitions.
        trained_parameters: P.
        parameters_in_32_bits: The trained parameters for which 8-bit optimizers keep 32-bit states.
        gradient_bytes: Bytes of all gradients.
        block_bytes: Bytes of the largest part that is gathered at once: a layer, or the embedding.
        averaged_parameters: The trained parameters of which a float32 average is kept.
    """

    weight_bytes: float
    quantised_bytes: float
    trained_parameters: int
    parameters_in_32_bits: int
    gradient_bytes: float
    block_bytes: float
    averaged_parameters: int = 0


@dataclass(frozen=True)
class ModelStates:
    """Bytes on one device that last throughout training, and the share of each gradient that it keeps.

    `communication` are the buffers in which gradients and weights are gathered.
    """

    weights: float
    optimizer: float
    gradient_share: float
    communication: float


def keeps_half_weights(launch: Launch) -> bool:
    """Whether mixed precision keeps 16-bit weights, with float32 copies in the optimizer."""
    return launch.startswith("zero") or launch == "fsdp2"


def model_states(weights: Weights, optim: str, launch: Launch, num_devices: int, is_half: bool) -> ModelStates:
    """The bytes that a launcher keeps on each device.

        single, multi-gpu   w P + s P                       (with several devices, plus DDP's buffers of the size of
                                                             the gradients)
        zero1               w P + (s + 4) P / G             4: float32 copies of 16-bit weights
        zero2               the same, and gradients / G     (both: plus two buckets of at most 5e8 numbers)
        zero3, fsdp2        the same, and weights / G       (plus two blocks: one in use, one being fetched)
        zero3-offload       weights and optimizer in the host's memory, two blocks on the device

    ZeRO: Rajbhandari et al. 2019, arXiv 1910.02054, section 3. FSDP2 keeps float32 weights instead of ZeRO's 16-bit
    weights and copies; the sum is the same.

    Raises:
        ValueError: The optimizer is unknown here.
    """
    master = 4 * weights.trained_parameters if is_half and keeps_half_weights(launch) else 0
    optimizer = optimizer_bytes(weights, optim) + master
    share = 1 / num_devices
    if launch in ("single", "multi-gpu"):
        return ModelStates(weights.weight_bytes, optimizer, 1.0, weights.gradient_bytes if num_devices > 1 else 0.0)
    if launch in ("zero1", "zero2"):
        buckets = 2 * min(BUCKET_NUMBERS, weights.trained_parameters) * (2 if is_half else 4)
        return ModelStates(
            weights.weight_bytes, optimizer * share, 1.0 if launch == "zero1" else share, float(buckets)
        )
    blocks = 2 * weights.block_bytes
    if launch == "zero3-offload":
        return ModelStates(weights.quantised_bytes, 0.0, share, blocks)
    spread = (weights.weight_bytes - weights.quantised_bytes) * share
    return ModelStates(weights.quantised_bytes + spread, optimizer * share, share, blocks)


def average_bytes(weights: Weights, launch: Launch, num_devices: int) -> float:
    """The bytes that the averages of weights take on each device: 4 for each, in the places of the weights."""
    shares = {"zero3": 1 / num_devices, "fsdp2": 1 / num_devices, "zero3-offload": 0.0}
    return 4 * weights.averaged_parameters * shares.get(launch, 1.0)


def optimizer_bytes(weights: Weights, optim: str) -> float:
    """Bytes of the optimizer's state before it is partitioned.

    Raises:
        ValueError: The optimizer is unknown here.
    """
    if optim not in OPTIMIZER_BYTES:
        raise ValueError(f"The memory of `optim: {optim}` is not known. Known are {', '.join(OPTIMIZER_BYTES)}.")
    in_32_bits = weights.parameters_in_32_bits if "8bit" in optim else 0
    blocked = weights.trained_parameters - in_32_bits
    return OPTIMIZER_BYTES[optim] * blocked + OPTIMIZER_BYTES[OPTIMIZER_IN_32_BITS.get(optim, optim)] * in_32_bits
