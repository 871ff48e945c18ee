"""What the tests of losses over a vocabulary share: heads of every kind, and the formula with all logits at once."""

import torch
from torch import Tensor

from llm_jepa.objectives.losses import LMHead

HEADS = {"plain": {}, "scale": {"logit_scale": 0.25}, "softcap": {"softcap": 1.5}, "bias": {"bias_V": True}}
HEADS["all"] = HEADS["scale"] | HEADS["softcap"] | HEADS["bias"]


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def new_head(kind: str, vocabulary: int = 11, width: int = 4, dtype: torch.dtype = torch.float64) -> LMHead:
    head = LMHead(normal(0, vocabulary, width, dtype=dtype), **HEADS[kind])
    return head._replace(bias_V=normal(1, vocabulary, dtype=dtype)) if head.bias_V is not None else head


def plain_logits(hidden_MD: Tensor, head: LMHead) -> Tensor:
    logits_MV = hidden_MD @ head.weight_VD.T
    if head.bias_V is not None:
        logits_MV = logits_MV + head.bias_V
    logits_MV = head.logit_scale * logits_MV
    return logits_MV if head.softcap is None else head.softcap * torch.tanh(logits_MV / head.softcap)


def is_token(lengths: list[int]) -> Tensor:
    """False for the padding at the end of each row: is_token_NS."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
