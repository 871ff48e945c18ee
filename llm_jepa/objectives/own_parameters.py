"""The parameters of an objective's own: [PRED] vectors, or a small network.

They are part of the model only while it trains (`predictor_registered`), so that launchers and optimizers find them.
They are saved beside a checkpoint, and never in the model that plain transformers loads.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

PREDICTOR_MODULE = "jepa_predictor"
PREDICTOR_FILE = "jepa_predictor.safetensors"


@contextmanager
def predictor_registered(model: nn.Module, predictor: nn.Module | None) -> Iterator[None]:
    """Make the predictor a submodule of the model meanwhile, so that optimizers and launchers see its parameters."""
    if predictor is None:
        yield
        return
    model.add_module(PREDICTOR_MODULE, predictor)
    try:
        yield
    finally:
        del model._modules[PREDICTOR_MODULE]


@contextmanager
def predictor_unregistered(model: nn.Module) -> Iterator[None]:
    """Remove a registered predictor from the model meanwhile, so that only the model itself is saved."""
    predictor = model._modules.pop(PREDICTOR_MODULE, None)
    try:
        yield
    finally:
        if predictor is not None:
            model._modules[PREDICTOR_MODULE] = predictor


def without_predictor(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the predictor's entries."""
    return {name: value for name, value in state_dict.items() if PREDICTOR_MODULE not in name.split(".")}


def drawn_by(seed: int, model: PreTrainedModel, make: Callable[[], nn.Module]) -> nn.Module:
    """A module as `make` builds it, its initial values drawn by the seed, on the model's device.

    The global random state stays as it was, so that adapter and data order equal those of the LM-only arm.
    """
    embed = model.get_input_embeddings()
    assert isinstance(embed, nn.Module)
    device = next(embed.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = make()
    return module if device.type == "cpu" else module.to(device)


def gathered_state(predictor: nn.Module) -> dict[str, Tensor]:
    """Copies of the whole parameters on the CPU, gathered from the shards of FSDP or ZeRO-3.

    Every process must call it.
    """
    with whole(predictor):
        return {name: _gathered(parameter) for name, parameter in predictor.named_parameters()}


def save_state(state: dict[str, Tensor], directory: str | Path) -> None:
    """Save gathered parameters beside a checkpoint."""
    save_file(state, Path(directory) / PREDICTOR_FILE)


def load_state(predictor: nn.Module, directory: str | Path) -> None:
    """Load the parameters from a checkpoint's directory.

    Raises:
        ValueError: The checkpoint has none, or others.
    """
    path = Path(directory) / PREDICTOR_FILE
    if not path.is_file():
        raise ValueError(
            f"The checkpoint {directory} has no {PREDICTOR_FILE}: its objective had no parameters of its own. Resume "
            "from one of this recipe, or start in another `output_dir`."
        )
    state, parameters = load_file(path), dict(predictor.named_parameters())
    saved = {name: tuple(value.shape) for name, value in state.items()}
    wanted = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    if saved != wanted:
        raise ValueError(
            f"{path} holds {_listed(saved, wanted)}; the recipe asks for {_listed(wanted, saved)}. Resume with the "
            "options of the checkpoint's objective, such as `num_predictor_tokens`."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            value = state[name].to(parameter.device)
            if isinstance(parameter, DTensor):
                value = distribute_tensor(value, parameter.device_mesh, parameter.placements)
            parameter.copy_(value)


def whole(module: nn.Module) -> AbstractContextManager:
    """Gather a module's parameters meanwhile, if ZeRO-3 has sharded them."""
    parameters = list(module.parameters())
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters)


def _gathered(parameter: nn.Parameter) -> Tensor:
    full = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
    return full.detach().cpu().clone().contiguous()


def _listed(shapes: dict[str, tuple], others: dict[str, tuple]) -> str:
    """The shapes that differ from the others, as text."""
    return ", ".join(f"`{name}` {shape}" for name, shape in shapes.items() if others.get(name) != shape) or "no more"
