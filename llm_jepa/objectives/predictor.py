"""The learned [PRED] vectors: k inputs of the model's width that replace token embeddings.

They are not in the vocabulary, so no embedding is resized and none of them can be generated. They are part of the
model only while it trains (`predictor_registered`), so that launchers find them. They are saved beside a checkpoint
and not published with the model.

Legend: K predictor tokens, D the model's width, R rows, L tokens of a row.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

PREDICTOR_MODULE = "jepa_predictor"
PREDICTOR_FILE = "jepa_predictor.safetensors"
_SAMPLED_TOKENS = 1024


class PredictorTokens(nn.Module):
    """Puts k learned vectors in place of the token embeddings at the predictor tokens' positions.

    Args:
        vectors_KD: Initial values; kept in float32.
    """

    def __init__(self, vectors_KD: Tensor):
        super().__init__()
        self.vectors_KD = nn.Parameter(vectors_KD.float())

    def forward(self, embeddings_RLD: Tensor, slots_RL: Tensor) -> Tensor:
        """Replace the embedding where the slot is j > 0 by the j-th vector; keep the others."""
        vectors_KD = self.vectors_KD.to(embeddings_RLD.dtype)
        chosen_RLD = vectors_KD[(slots_RL - 1).clamp(min=0)]
        return torch.where((slots_RL > 0)[..., None], chosen_RLD, embeddings_RLD)


def new_predictor(model: PreTrainedModel, num_tokens: int, seed: int) -> PredictorTokens:
    """Create distinct vectors with the distribution of the model's token embeddings.

    Each dimension is normal with the mean and standard deviation of a sample of token embeddings. A generator of its
    own leaves the global random state unchanged, so that adapter and data order equal those of the LM-only arm.
    """
    embed = model.get_input_embeddings()
    assert isinstance(embed, nn.Module)
    vocabulary_tokens = model.config.get_text_config().vocab_size
    sample = torch.linspace(0, vocabulary_tokens - 1, min(_SAMPLED_TOKENS, vocabulary_tokens)).long()
    device = next(embed.parameters()).device
    with torch.no_grad(), _whole(embed):
        embeddings_SD = embed(sample.to(device)).float().cpu()
    noise_KD = torch.randn(num_tokens, embeddings_SD.shape[1], generator=torch.Generator().manual_seed(seed))
    return PredictorTokens(embeddings_SD.mean(0) + embeddings_SD.std(0) * noise_KD).to(device)


@contextmanager
def predictor_registered(model: nn.Module, predictor: PredictorTokens | None) -> Iterator[None]:
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


def gathered_vectors(predictor: PredictorTokens) -> Tensor:
    """The whole vectors_KD on the CPU, gathered from the shards of FSDP or ZeRO-3. Every process must call it."""
    parameter = predictor.vectors_KD
    if isinstance(parameter, DTensor):
        return parameter.full_tensor().detach().cpu()
    with _whole(predictor):
        return parameter.detach().cpu().clone()


def save_vectors(vectors_KD: Tensor, directory: str | Path) -> None:
    """Save the vectors beside a checkpoint."""
    save_file({"vectors_KD": vectors_KD.contiguous()}, Path(directory) / PREDICTOR_FILE)


def load_vectors(predictor: PredictorTokens, directory: str | Path) -> None:
    """Load the vectors from a checkpoint's directory.

    Raises:
        ValueError: The checkpoint has no vectors, or another number of them.
    """
    path = Path(directory) / PREDICTOR_FILE
    if not path.is_file():
        raise ValueError(
            f"The checkpoint {directory} has no {PREDICTOR_FILE}: it was written without predictor tokens. Resume "
            "from one of this recipe, or start in another `output_dir`."
        )
    vectors_KD = load_file(path)["vectors_KD"]
    parameter = predictor.vectors_KD
    if vectors_KD.shape != parameter.shape:
        raise ValueError(
            f"{path} holds {tuple(vectors_KD.shape)} (tokens, width); the recipe asks for {tuple(parameter.shape)}. "
            "Set `num_predictor_tokens` to the checkpoint's number."
        )
    with torch.no_grad():
        if isinstance(parameter, DTensor):
            vectors_KD = distribute_tensor(
                vectors_KD.to(parameter.device), parameter.device_mesh, parameter.placements
            )
        parameter.copy_(vectors_KD)


def _whole(module: nn.Module) -> AbstractContextManager:
    """Gather a module's parameters meanwhile, if ZeRO-3 has sharded them."""
    parameters = list(module.parameters())
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters)
