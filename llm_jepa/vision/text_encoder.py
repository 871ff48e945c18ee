"""Text encoders of the answers: any sentence encoder of transformers, its tokens pooled.

Legend: N rows, S tokens of the longest row, D the encoder's width.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

Pooling = Literal["mean", "cls"]


def load_text_encoder(name_or_path: str) -> PreTrainedModel:
    """The encoder with its weights in float32."""
    return without_pooler(AutoModel.from_pretrained(name_or_path, dtype=torch.float32))


def without_pooler(encoder: PreTrainedModel) -> PreTrainedModel:
    """The encoder without the layer that BERT and its like put on [CLS], which nothing reads."""
    if isinstance(getattr(encoder, "pooler", None), nn.Module):
        encoder.register_module("pooler", None)
    return encoder


def encode_texts(encoder: PreTrainedModel, ids_NS: Tensor, is_token_NS: Tensor, pooling: Pooling) -> Tensor:
    """The pooled last hidden states: text_ND. `is_token_NS` is 0 for padding, which is on the right."""
    hidden_NSD = encoder(input_ids=ids_NS, attention_mask=is_token_NS).last_hidden_state
    return hidden_NSD[:, 0] if pooling == "cls" else masked_mean(hidden_NSD, is_token_NS)


def masked_mean(hidden_NSD: Tensor, is_token_NS: Tensor) -> Tensor:
    """The mean over the positions that are no padding: mean_ND. A row without any gives zeros."""
    weight_NS1 = is_token_NS[:, :, None].to(hidden_NSD.dtype)
    return (hidden_NSD * weight_NS1).sum(dim=1) / weight_NS1.sum(dim=1).clamp(min=1)
