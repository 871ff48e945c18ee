"""Semantic Tube Prediction: hidden states along a sequence should move in a straight line (arXiv 2602.22617).

`tube_loss` is the paper's form, `patch_loss` that of its reference code, `step_loss` the tube between the ends of
steps (arXiv 2604.18464). None needs pairs or extra tokens. The first two use the *content* of a conversation: the
tokens of the source, then those of the target, without the tokens that a template adds, numbered 0 .. L-1. A plain
text is one span: all of it is the source, and the target is empty.

Legend: N rows, S positions of a row, D the model's width, C content tokens chosen per row or the most steps of a row,
B = C - 1 moves between them, A = C - 2 turns between those.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_STEPS = 3


def tube_loss(hidden_NSD: Tensor, source_span_N2: Tensor, target_span_N2: Tensor, tube_N3: Tensor) -> Tensor:
    """`1 - cos(h_t - h_r, h_r - h_s)` of content tokens s < r < t: 0 on a straight line, 2 if the path reverses.

    Semantic Tube Prediction (arXiv 2602.22617), the paper's form. Computed in float32 at least.

    Args:
        hidden_NSD: The last layer's hidden states.
        source_span_N2: [start, end) of the source's content.
        target_span_N2: [start, end) of the target's content; empty for a plain text.
        tube_N3: s, r and t in the numbering of the content.

    Returns:
        loss_N.
    """
    start_ND, middle_ND, end_ND = _at(hidden_NSD, content_positions(source_span_N2, target_span_N2, tube_N3)).unbind(1)
    return 1 - F.cosine_similarity(end_ND - middle_ND, middle_ND - start_ND, dim=-1)


def patch_loss(hidden_NSD: Tensor, source_span_N2: Tensor, target_span_N2: Tensor, patch_N2: Tensor) -> Tensor:
    """`1 - cos(total - patch, patch)`: a patch of the content should have the direction of the rest.

    A span's vector is the hidden state at its last token minus the one at the token before its first. The vector of a
    span that crosses from the source to the target is the sum of its two parts, so the template's tokens between them
    do not count. `total` is the vector of the whole content. The default of Semantic Tube Prediction's reference code
    (arXiv 2602.22617). Computed in float32 at least.

    Args:
        hidden_NSD: The last layer's hidden states.
        source_span_N2: [start, end) of the source's content; start >= 1.
        target_span_N2: [start, end) of the target's content; empty for a plain text.
        patch_N2: [a, b) in the numbering of the content, 0 <= a < b <= L and b - a < L.

    Returns:
        loss_N.
    """
    source_tokens_N = source_span_N2[:, 1] - source_span_N2[:, 0]
    # The part of the patch in each view, as positions. An empty part has start = end, and the vector 0.
    in_source_N2 = source_span_N2[:, :1] + torch.minimum(patch_N2, source_tokens_N[:, None])
    in_target_N2 = target_span_N2[:, :1] + (patch_N2 - source_tokens_N[:, None]).clamp(min=0)
    patch_ND = _span_vector(hidden_NSD, in_source_N2) + _span_vector(hidden_NSD, in_target_N2)
    total_ND = _span_vector(hidden_NSD, source_span_N2) + _span_vector(hidden_NSD, target_span_N2)
    return 1 - F.cosine_similarity(total_ND - patch_ND, patch_ND, dim=-1)


def step_loss(hidden_NSD: Tensor, step_end_NC: Tensor) -> Tensor:
    """Mean of `1 - cos(h_t - h_r, h_r - h_s)` over consecutive ends of steps s < r < t: loss_N.

    Semantic Step Prediction (arXiv 2604.18464). A row with fewer than three ends has the loss 0. Computed in float32
    at least.

    Args:
        hidden_NSD: The last layer's hidden states.
        step_end_NC: The position at which each step ends, padded with -1 at the end.
    """
    move_NBD = _at(hidden_NSD, step_end_NC).diff(dim=1)
    term_NA = 1 - F.cosine_similarity(move_NBD[:, 1:], move_NBD[:, :-1], dim=-1)
    is_there_NA = step_end_NC[:, MIN_STEPS - 1 :] >= 0
    return term_NA.where(is_there_NA, 0).sum(dim=1) / is_there_NA.sum(dim=1).clamp(min=1)


def content_positions(source_span_N2: Tensor, target_span_N2: Tensor, content_NC: Tensor) -> Tensor:
    """Positions in the row of content tokens: position_NC.

    Example: source [3, 7), target [9, 14); content tokens 0, 3, 4, 8 are at 3, 6, 9, 13.
    """
    source_tokens_N1 = source_span_N2[:, 1:] - source_span_N2[:, :1]
    return torch.where(
        content_NC < source_tokens_N1,
        source_span_N2[:, :1] + content_NC,
        target_span_N2[:, :1] + content_NC - source_tokens_N1,
    )


def content_tokens(source_span_N2: Tensor, target_span_N2: Tensor) -> Tensor:
    """L, the number of content tokens of each row."""
    return (source_span_N2[:, 1] - source_span_N2[:, 0]) + (target_span_N2[:, 1] - target_span_N2[:, 0])


def _span_vector(hidden_NSD: Tensor, span_N2: Tensor) -> Tensor:
    """`h(last token) - h(token before the first)`; zero for an empty span."""
    before_ND, last_ND = _at(hidden_NSD, span_N2 - 1).unbind(1)
    return last_ND - before_ND


def _at(hidden_NSD: Tensor, position_NC: Tensor) -> Tensor:
    """Hidden states at positions, in float32 at least: chosen_NCD.

    Positions are clamped; the caller zeroes the loss of rows that are too short.
    """
    position_NC = position_NC.clamp(0, hidden_NSD.shape[1] - 1)
    index_NCD = position_NC[:, :, None].expand(-1, -1, hidden_NSD.shape[-1])
    chosen_NCD = hidden_NSD.gather(1, index_NCD)
    return chosen_NCD.to(torch.promote_types(chosen_NCD.dtype, torch.float32))
