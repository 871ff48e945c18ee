"""A moving average of the weights that are trained, which embeds targets (BYOL, arXiv 2006.07733, section 3.1).

    average <- decay * average + (1 - decay) * weight        after each optimizer step; at first the weight itself

Each process averages what it holds: the whole weights, or its shards under FSDP2 and ZeRO-3.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedWeights:
    """Averages in float32 of the trained parameters of a part of a model.

    Args:
        model: The model that is trained, after a launcher has sharded it.
        part: The part that the averages are of; adapters alone are trained in it under LoRA.
    """

    def __init__(self, model: nn.Module, part: nn.Module):
        self._model = model
        _drop_gathered_weights(model)
        self._parameters = {name: one for name, one in part.named_parameters() if one.requires_grad}
        self._averages = {name: _shard(one).to(torch.float32, copy=True) for name, one in self._parameters.items()}
        self.is_sharded = any(isinstance(one, DTensor) or hasattr(one, "ds_tensor") for one in part.parameters())

    def update(self, decay: float) -> None:
        """Move the averages towards the weights."""
        weights: list[Tensor] = [_shard(parameter).float() for parameter in self._parameters.values()]
        get_ema_multi_avg_fn(decay)(list(self._averages.values()), weights, None)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Put the averages in the place of the weights meanwhile, in the weights' precision.

        No backward pass may begin or be outstanding meanwhile. Autograd does not see the exchange.
        """
        weights: dict[str, Tensor] = {}
        try:
            for name, parameter in self._parameters.items():
                weights[name] = _exchange(parameter, self._averages[name])
            _drop_gathered_weights(self._model)
            yield
        finally:
            for name, weight in weights.items():
                _exchange(self._parameters[name], weight)
            _drop_gathered_weights(self._model)

    def save(self, path: Path) -> None:
        """Write the averages of this process."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: average.contiguous() for name, average in self._averages.items()}, path)

    def load(self, path: Path) -> None:
        """Read the averages of this process.

        Raises:
            ValueError: The file is missing, or holds averages of other weights.
        """
        if not path.is_file():
            raise ValueError(
                f"The checkpoint {path.parent} has no {path.name}: it was not trained with averaged targets. Resume "
                "from one of this recipe, or start in another `output_dir`."
            )
        saved = load_file(path)
        if _shapes(saved) != _shapes(self._averages):
            raise ValueError(
                f"{path} holds averages of other weights than this recipe trains. Resume with the adapter and the "
                "model of the checkpoint."
            )
        for name, average in self._averages.items():
            average.copy_(saved[name])


def _shard(parameter: nn.Parameter) -> Tensor:
    """What this process holds of a parameter, with a version counter of its own."""
    if isinstance(parameter, DTensor):
        with torch.no_grad():
            return parameter.to_local().data
    return getattr(parameter, "ds_tensor", parameter).data


def _exchange(parameter: nn.Parameter, values: Tensor) -> Tensor:
    """Put values in the place of what this process holds of a parameter, and return what was there."""
    shard = _shard(parameter)
    if isinstance(parameter, DTensor):  # FSDP2 gathers from another view of the shard's memory
        earlier = shard.clone()
        shard.copy_(values)
        return earlier
    getattr(parameter, "ds_tensor", parameter).data = values.to(shard.dtype)
    return shard


def _drop_gathered_weights(model: nn.Module) -> None:
    """Drop the whole weights that FSDP2 or ZeRO-3 has gathered, so that the next forward gathers them anew."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    partitioned: list[Any] = [parameter for parameter in model.parameters() if hasattr(parameter, "ds_id")]
    if partitioned:
        from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

        gathered = [parameter for parameter in partitioned if parameter.ds_status == ZeroParamStatus.AVAILABLE]
        if gathered:
            gathered[0].partition(gathered)


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
