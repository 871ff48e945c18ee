"""A plain reference of variable-length flash attention for any device, with exactly the kernel's arguments.

It is registered with transformers under a name of the flash family, so that a model treats it as the kernel: it passes
no mask, but the bounds of the sequences, the sliding window, soft cap and sinks as arguments. An argument that a model
fails to pass shows in its output.

Legend: B rows, H heads, L tokens of a row, T tokens of one sequence, D a head's width.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import flash_attention_mask

from llm_jepa.layouts.masks import may_attend, within_window

FLASH_REFERENCE = "flash_reference"


def varlen_attention(
    module: nn.Module,
    query_BHLD: Tensor,
    key_BHLD: Tensor,
    value_BHLD: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sequence of a row, in transformers' interface: output_BLHD, and no weights.

    Raises:
        ValueError: The model passed no bounds, or a mask, which the kernel does not accept with them.
    """
    if cu_seq_lens_q is None or attention_mask is not None:
        raise ValueError("The model must pass the bounds of its sequences, and no mask, to its attention.")
    groups = query_BHLD.shape[1] // key_BHLD.shape[1]
    key_BHLD, value_BHLD = (states.repeat_interleave(groups, dim=1) for states in (key_BHLD, value_BHLD))
    scaling = query_BHLD.shape[-1] ** -0.5 if scaling is None else scaling
    outputs = []
    for start, end in pairwise(cu_seq_lens_q.tolist()):
        query, key, value = (states[:, :, start:end] for states in (query_BHLD, key_BHLD, value_BHLD))
        score_BHTT = query @ key.transpose(-1, -2) * scaling
        if softcap is not None:
            score_BHTT = softcap * torch.tanh(score_BHTT / softcap)
        index_T = torch.arange(end - start, device=query.device)
        allowed_TT = may_attend(index_T[:, None], index_T[None, :], torch.tensor(end - start))
        if sliding_window is not None:
            allowed_TT &= within_window(index_T[:, None], index_T[None, :], sliding_window)
        score_BHTT = score_BHTT.masked_fill(~allowed_TT, torch.finfo(score_BHTT.dtype).min)
        if s_aux is not None:
            sink_BHT1 = s_aux.to(score_BHTT).view(1, -1, 1, 1).expand(*score_BHTT.shape[:3], 1)
            score_BHTT = torch.cat([score_BHTT, sink_BHT1], dim=-1)
        outputs.append(score_BHTT.softmax(dim=-1)[..., : end - start] @ value)
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(FLASH_REFERENCE, varlen_attention)
AttentionMaskInterface.register(FLASH_REFERENCE, flash_attention_mask)
