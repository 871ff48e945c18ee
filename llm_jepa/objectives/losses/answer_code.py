"""The losses of `answer_code`: predict a code of the target that must suffice to write the target down again.

Semformer (arXiv 2409.11143). The code comes from an autoencoder (`llm_jepa.objectives.answer_autoencoder`).

Legend: N rows, K codes of a row, C numbers of a code, T tokens of the longest target, E the decoder's width.
"""

import torch
from torch import Tensor

from llm_jepa.objectives.losses.lm_head import LMHead, token_log_probs


def code_regression_rows(predicted_NKC: Tensor, code_NKC: Tensor) -> Tensor:
    """Mean over K and C of `(predicted - sg code)^2`, in float32 at least: loss_N.

    Semformer (arXiv 2409.11143), its L2 loss.

    Raises:
        ValueError: The shapes differ.
    """
    if predicted_NKC.shape != code_NKC.shape:
        raise ValueError(
            f"The prediction has the shape {tuple(predicted_NKC.shape)} and the codes {tuple(code_NKC.shape)}; both "
            "must be (rows, codes, width)."
        )
    dtype = torch.promote_types(predicted_NKC.dtype, torch.float32)
    return (predicted_NKC.to(dtype) - code_NKC.detach().to(dtype)).square().mean(dim=(1, 2))


def reconstruction_rows(decoded_NTE: Tensor, token_NT: Tensor, is_token_NT: Tensor, head: LMHead) -> Tensor:
    """Mean over the target's tokens of their cross-entropy: loss_N, in float32. A row without tokens has the loss 0.

    Args:
        decoded_NTE: The decoder's state that predicts the token at each position.
        is_token_NT: False for padding.
        head: That of the decoder.
    """
    log_prob_NT = token_log_probs(decoded_NTE.flatten(0, 1), token_NT.flatten(), head).view(token_NT.shape)
    return -log_prob_NT.where(is_token_NT, 0).sum(dim=1) / is_token_NT.sum(dim=1).clamp(min=1)
