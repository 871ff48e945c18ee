"""The embeddings of token sequences by one forward of the backbone, as training reads them.

Legend: N sequences, R rows, L tokens of a row, D the model's width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_jepa.data.views import TokenSequence
from llm_jepa.layouts import Example, RowsLayout
from llm_jepa.objectives.predictor import PredictorTokens
from llm_jepa.objectives.view_forward import embeddings


@torch.no_grad()
def embed(
    model: PreTrainedModel,
    sequences: Sequence[TokenSequence],
    pad_token_id: int,
    predictor: PredictorTokens | None = None,
    layer: int | None = None,
) -> Tensor:
    """Each sequence's embedding, read out as the sequence says: embedding_ND, float32 on the CPU.

    Args:
        model: A causal LM without its adapter's wrapper; the adapter's layers stay in it.
        predictor: The [PRED] vectors of sequences that have slots for them.
        layer: The number of layers after which the embedding is read; None for all, and the final norm.
    """
    batch = RowsLayout(pad_token_id).lay_out([Example(sequence, (), ()) for sequence in sequences])
    batch = batch.map(lambda tensor: tensor.to(model.device))
    request = {} if layer is None else {"output_hidden_states": [layer]}
    with _vectors_inserted(model, predictor, batch.slots_RL):
        inputs = batch.backbone_inputs(batch.unshared_form)
        output = model.base_model(**inputs, use_cache=False, **request)
    hidden_RLD = output.last_hidden_state if layer is None else output.hidden_states[layer]
    return embeddings(hidden_RLD.flatten(0, 1), batch, 0).float().cpu()


@contextmanager
def _vectors_inserted(model: PreTrainedModel, predictor: PredictorTokens | None, slots_RL: Tensor) -> Iterator[None]:
    """Put the predictor's vectors in place of the token embeddings at their slots meanwhile."""
    if predictor is None:
        yield
        return
    embed_tokens = model.get_input_embeddings()
    assert isinstance(embed_tokens, nn.Module)
    handle = embed_tokens.register_forward_hook(lambda module, args, output_RLD: predictor(output_RLD, slots_RL))
    try:
        yield
    finally:
        handle.remove()
