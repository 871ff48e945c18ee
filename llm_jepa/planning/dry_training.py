"""What a step of training costs, from tensors without data (`FakeTensorMode`): needs no weights and no device."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import set_checkpoint_early_stop
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import TrainingArguments
from transformers.training_args import OptimizerNames

from llm_jepa.planning.live_bytes import LiveBytes, storage_bytes
from llm_jepa.planning.memory import SMALLEST_8BIT_PARAMETERS, Launch, Weights, average_bytes, model_states

aten = torch.ops.aten
EXTRA_FLOP_FORMULAS: dict[Any, Callable[..., int]] = {
    aten.addmm_: lambda total, left, right, **_: 2 * math.prod(left) * right[-1],
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    ),
}
"""FLOPs by shape where `FlopCounterMode` has none: the weight gradient of TRL's head, and attention on a CPU."""


class DryTraining(ABC):
    """A model in training mode, without data. A subclass makes `model` and has its loss.

    Args:
        args: The options of training.
    """

    kinds: ClassVar[tuple[str, ...]] = ("activations", "gradients")
    """What a micro-batch needs memory for."""
    args: TrainingArguments
    model: nn.Module

    def __init__(self, args: TrainingArguments):
        self.args = args
        self.half = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
        self.mode = FakeTensorMode()

    @abstractmethod
    def weights(self) -> Weights:
        """Bytes of the model's weights."""

    @abstractmethod
    def _loss(self, inputs: dict[str, Any]) -> Tensor: ...

    def _weights(self, block_bytes: float, more: Iterable[Tensor] = ()) -> Weights:
        """Those of a model that is not quantised, and of `more` tensors that train beside it."""
        everything = [*self.model.parameters(), *self.model.buffers(), *more]
        trained = [one for one in everything if one.requires_grad]
        embeddings = {id(module.weight) for module in self.model.modules() if isinstance(module, nn.Embedding)}
        in_32_bits = [one for one in trained if id(one) in embeddings or one.numel() < SMALLEST_8BIT_PARAMETERS]
        return Weights(
            weight_bytes=storage_bytes(everything),
            quantised_bytes=0.0,
            trained_parameters=sum(one.numel() for one in trained),
            parameters_in_32_bits=sum(one.numel() for one in in_32_bits),
            gradient_bytes=storage_bytes(trained),
            block_bytes=block_bytes,
        )

    def flops(self, inputs: dict[str, Any]) -> float:
        """FLOPs of a micro-batch's matrix products, forward and backward, including what checkpointing recomputes."""
        counter = FlopCounterMode(display=False, custom_mapping=EXTRA_FLOP_FORMULAS)
        with self._ready(inputs) as inputs, counter:
            self._loss(inputs).backward()
        return float(counter.get_total_flops())

    def memory(self, inputs: dict[str, Any], launch: Launch, num_devices: int) -> dict[str, float]:
        """Peak bytes of one device in a micro-batch, by kind.

        Raises:
            ValueError: The memory of the optimizer is not known.
        """
        weights, optim = self.weights(), OptimizerNames(self.args.optim).value
        kept = model_states(weights, optim, launch, num_devices, self.half is not None)
        lasting = {"weights": kept.weights, "optimizer": kept.optimizer, "communication": kept.communication}
        if weights.averaged_parameters:
            lasting["averages"] = average_bytes(weights, launch, num_devices)
        return lasting | self.peak_bytes(inputs, kept.gradient_share)

    def peak_bytes(self, inputs: dict[str, Any], gradient_share: float = 1.0) -> dict[str, float]:
        """Peak bytes of a micro-batch by `kinds`.

        With gradient accumulation, the gradients of an earlier micro-batch are included. One device keeps
        `gradient_share` of a gradient.
        """
        with self._ready(inputs) as inputs:
            parameters = list(self.model.parameters())
            with LiveBytes(self._kind_of, [*parameters, *self.model.buffers()], parameters, gradient_share) as live:
                for _ in range(min(self.args.gradient_accumulation_steps, 2)):
                    self._loss(inputs).backward()
        return dict.fromkeys(self.kinds, 0.0) | live.peak

    @contextmanager
    def _ready(self, inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        # Under a dispatch mode checkpointing cannot stop early; in training it recomputes everything as well.
        with self.mode, set_checkpoint_early_stop(False):
            yield inputs
        self.model.zero_grad()

    def _kind_of(self, tensor: Tensor) -> str:
        return "activations"


def materialise(model: nn.Module) -> None:
    """Recreate the parameters and buffers of a meta model in the surrounding mode; ties are kept."""
    made: dict[Tensor, Tensor] = {}

    def make(tensor: Tensor) -> Tensor:
        if tensor not in made:
            made[tensor] = torch.empty(tensor.shape, dtype=tensor.dtype)
        return made[tensor]

    parameters: dict[Tensor, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if parameter not in parameters:
                parameters[parameter] = nn.Parameter(make(parameter), parameter.requires_grad)
            module.register_parameter(name, parameters[parameter])
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            module._buffers[name] = make(buffer)
