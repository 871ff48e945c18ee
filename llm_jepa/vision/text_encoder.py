"""Text encoders of the answers: any sentence encoder of transformers, its tokens pooled.

Legend: N rows, S tokens of the longest row, D the encoder's width.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from llm_jepa.training.evaluation_mode import in_evaluation

Pooling = Literal["mean", "cls"]
POSITION_EMBEDDINGS = ("position_embedding", "position_embeddings")
"""What transformers calls learned positions: CLIP's text tower the first, BERT and its like the second."""


def load_text_encoder(name_or_path: str) -> PreTrainedModel:
    """The encoder with its weights in float32."""
    return without_pooler(AutoModel.from_pretrained(name_or_path, dtype=torch.float32))


def without_pooler(encoder: PreTrainedModel) -> PreTrainedModel:
    """The encoder without the layer that BERT and its like put on [CLS], which nothing reads."""
    if isinstance(getattr(encoder, "pooler", None), nn.Module):
        encoder.register_module("pooler", None)
    return encoder


def check_encodes_texts(encoder: PreTrainedModel, max_tokens: int) -> None:
    """Check that an encoder takes texts of up to `max_tokens` tokens, by a forward of two tokens and by its positions.

    Raises:
        ValueError: It does not.
    """
    ids_NS = torch.zeros(1, 2, dtype=torch.long, device=encoder.device)
    kind = encoder.config.model_type
    try:
        with in_evaluation(encoder), torch.no_grad():
            encode_texts(encoder, ids_NS, torch.ones_like(ids_NS), "mean")
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(
            f"The text encoder ({kind}) takes no `input_ids` and `attention_mask` alone: {reason}. Name another "
            "`text_encoder`, such as EmbeddingGemma, BERT or MiniLM."
        ) from error
    positions = max_positions(encoder)
    if positions is not None and max_tokens > positions:
        raise ValueError(
            f"`max_answer_tokens` is {max_tokens}; the text encoder ({kind}) has {positions} positions. Lower it."
        )


def max_positions(encoder: PreTrainedModel) -> int | None:
    """The positions that an encoder learned; None where it computes them.

    Example: RoBERTa counts from its padding's index + 1, so 514 positions with the padding at 1 are 512.
    """
    for name, module in encoder.named_modules():
        if name.rpartition(".")[2] in POSITION_EMBEDDINGS and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


def encode_texts(encoder: PreTrainedModel, ids_NS: Tensor, is_token_NS: Tensor, pooling: Pooling) -> Tensor:
    """The pooled last hidden states: text_ND. `is_token_NS` is 0 for padding, which is on the right."""
    hidden_NSD = encoder(input_ids=ids_NS, attention_mask=is_token_NS).last_hidden_state
    return hidden_NSD[:, 0] if pooling == "cls" else masked_mean(hidden_NSD, is_token_NS)


def masked_mean(hidden_NSD: Tensor, is_token_NS: Tensor) -> Tensor:
    """The mean over the positions that are no padding: mean_ND. A row without any gives zeros."""
    weight_NS1 = is_token_NS[:, :, None].to(hidden_NSD.dtype)
    return (hidden_NSD * weight_NS1).sum(dim=1) / weight_NS1.sum(dim=1).clamp(min=1)
