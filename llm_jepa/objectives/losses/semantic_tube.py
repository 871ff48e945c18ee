"""Semantic Tube Prediction: hidden states along a sequence should move in a straight line (arXiv 2602.22617).

Two forms: `tube_loss`, the paper's, and `patch_loss`, that of its reference code. Neither needs pairs or any token
more. Both look at the *content* of a conversation: the tokens of the source and then those of the target, without
what a template puts around them, numbered 0 .. L-1. A text without pairs is one span, its target empty.

Legend: B rows, S positions of a row, D the model's width, C content tokens chosen per row.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def tube_loss(hidden_BSD: Tensor, source_span_B2: Tensor, target_span_B2: Tensor, tube_B3: Tensor) -> Tensor:
    """`1 - cos(h_t - h_r, h_r - h_s)` of content tokens s < r < t: 0 on a straight line, 2 if the path turns back.

    Semantic Tube Prediction (arXiv 2602.22617), the paper's form. Computed in float32 at least.

    Args:
        hidden_BSD: The last layer's hidden states.
        source_span_B2: First position of the source's content and the one past its last.
        target_span_B2: The same for the target; empty where there is none.
        tube_B3: s, r and t in the numbering of the content.

    Returns:
        loss_B.
    """
    start_BD, middle_BD, end_BD = _at(hidden_BSD, content_positions(source_span_B2, target_span_B2, tube_B3)).unbind(1)
    return 1 - F.cosine_similarity(end_BD - middle_BD, middle_BD - start_BD, dim=-1)


def patch_loss(hidden_BSD: Tensor, source_span_B2: Tensor, target_span_B2: Tensor, patch_B2: Tensor) -> Tensor:
    """`1 - cos(total - patch, patch)`: a patch of the content should point where the rest of it points.

    A span's vector is the hidden state at its last token minus the one at the token before its first. A span that
    crosses from the source to the target is the sum of its two parts, so the template's tokens between them do not
    count. `total` is the span of the whole content. The default of Semantic Tube Prediction's reference code
    (arXiv 2602.22617). Computed in float32 at least.

    Args:
        hidden_BSD: The last layer's hidden states.
        source_span_B2: First position of the source's content, 1 at least, and the one past its last.
        target_span_B2: The same for the target; empty where there is none.
        patch_B2: [a, b) in the numbering of the content, 0 <= a < b <= L and b - a < L.

    Returns:
        loss_B.
    """
    source_tokens_B = source_span_B2[:, 1] - source_span_B2[:, 0]
    # The part of the patch in each view, as positions; a part that is empty begins where it ends, and counts 0.
    in_source_B2 = source_span_B2[:, :1] + torch.minimum(patch_B2, source_tokens_B[:, None])
    in_target_B2 = target_span_B2[:, :1] + (patch_B2 - source_tokens_B[:, None]).clamp(min=0)
    patch_BD = _span_vector(hidden_BSD, in_source_B2) + _span_vector(hidden_BSD, in_target_B2)
    total_BD = _span_vector(hidden_BSD, source_span_B2) + _span_vector(hidden_BSD, target_span_B2)
    return 1 - F.cosine_similarity(total_BD - patch_BD, patch_BD, dim=-1)


def content_positions(source_span_B2: Tensor, target_span_B2: Tensor, content_BC: Tensor) -> Tensor:
    """Positions in the row of content tokens: position_BC.

    Example: source [3, 7), target [9, 14); content tokens 0, 3, 4, 8 are at 3, 6, 9, 13.
    """
    source_tokens_B1 = source_span_B2[:, 1:] - source_span_B2[:, :1]
    return torch.where(
        content_BC < source_tokens_B1,
        source_span_B2[:, :1] + content_BC,
        target_span_B2[:, :1] + content_BC - source_tokens_B1,
    )


def content_tokens(source_span_B2: Tensor, target_span_B2: Tensor) -> Tensor:
    """L, the number of content tokens of each row."""
    return (source_span_B2[:, 1] - source_span_B2[:, 0]) + (target_span_B2[:, 1] - target_span_B2[:, 0])


def _span_vector(hidden_BSD: Tensor, span_B2: Tensor) -> Tensor:
    """`h(last token) - h(token before the first)`; zero for an empty span."""
    before_BD, last_BD = _at(hidden_BSD, span_B2 - 1).unbind(1)
    return last_BD - before_BD


def _at(hidden_BSD: Tensor, position_BC: Tensor) -> Tensor:
    """Hidden states at positions, in float32 at least: chosen_BCD. Rows too short for theirs are read somewhere."""
    position_BC = position_BC.clamp(0, hidden_BSD.shape[1] - 1)
    index_BCD = position_BC[:, :, None].expand(-1, -1, hidden_BSD.shape[-1])
    chosen_BCD = hidden_BSD.gather(1, index_BCD)
    return chosen_BCD.to(torch.promote_types(chosen_BCD.dtype, torch.float32))
