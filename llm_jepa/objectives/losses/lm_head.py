"""The logits of a language model's head, and the log-probabilities of tokens without them.

Legend: V tokens of the vocabulary, D the model's width, C positions of a chunk, M positions.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from trl.kernels import ChunkedLogProbFunction

CHUNK_TOKENS = 256
"""Positions whose logits stand in memory at once."""
VOCABULARY_CHUNK = 32768
"""Tokens of the vocabulary whose logits TRL's head computes at once; `llm-jepa plan` counts its products by it."""


class LMHead(NamedTuple):
    """What turns hidden states into logits: `softcap * tanh(logit_scale * (W h + b) / softcap)`.

    Without `softcap` they are `logit_scale * (W h + b)`.
    """

    weight_VD: Tensor
    bias_V: Tensor | None = None
    logit_scale: float = 1.0
    softcap: float | None = None

    @property
    def logits_dtype(self) -> torch.dtype:
        """That of the logits: float32 at least."""
        return torch.promote_types(self.weight_VD.dtype, torch.float32)

    def as_computed(self) -> "LMHead":
        """Weight and bias in the type of autocast where it is on, and without gradient."""
        device_type = self.weight_VD.device.type
        dtype = self.weight_VD.dtype
        if torch.is_autocast_enabled(device_type):
            dtype = torch.get_autocast_dtype(device_type)
        bias_V = None if self.bias_V is None else self.bias_V.detach().to(dtype)
        return self._replace(weight_VD=self.weight_VD.detach().to(dtype), bias_V=bias_V)


def logits(hidden_CD: Tensor, head: LMHead) -> Tensor:
    """logits_CV, by a product in the weight's type, then in float32 at least."""
    logits_CV = F.linear(hidden_CD.to(head.weight_VD.dtype), head.weight_VD, head.bias_V).to(head.logits_dtype)
    if head.logit_scale != 1:
        logits_CV = logits_CV * head.logit_scale
    if head.softcap is None:
        return logits_CV
    return head.softcap * torch.tanh(logits_CV / head.softcap)


def token_log_probs(hidden_MD: Tensor, token_M: Tensor, head: LMHead) -> Tensor:
    """`log softmax(logits)` of a token at each position, with gradient to the hidden states and to the head.

    Computed as TRL's head scores labels: in tiles, which the backward computes again. There ZeRO-3 gathers the
    weight once more, so `head` must hold the parameter itself.

    Returns:
        log_prob_M, in float32.
    """
    return ChunkedLogProbFunction.apply(
        hidden_MD, head.weight_VD, head.bias_V, token_M, 1.0, VOCABULARY_CHUNK, head.softcap, head.logit_scale, ()
    )[0]
