"""Next-latent prediction: the dynamics g(h, x) should foretell the model's later hidden states (arXiv 2511.05963).

A row begins at position 0, and its padding is at the end.

Legend: N rows, S positions of a row, D the model's width, V tokens of the vocabulary, M chosen positions, C positions
of a chunk, T = S - i positions of step i, I steps.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from llm_jepa.objectives.losses.lm_head import CHUNK_TOKENS, LMHead, logits
from llm_jepa.objectives.losses.row_means import mean_of_means, mean_of_row_means

Dynamics = Callable[[Tensor, Tensor], Tensor]
"""g: hidden states and the embeddings of the tokens that follow them, both (..., D) -> the next hidden states."""


def roll_out(dynamics: Dynamics, hidden_NSD: Tensor, embedding_NSD: Tensor, steps: int) -> list[Tensor]:
    """The hidden states that g foretells 1 .. steps tokens ahead, on the row's own tokens.

        predicted_0,t = h_t,   predicted_i,t = g(predicted_(i-1),t, e(x_(t+i)))

    NextLat (arXiv 2511.05963). Example, S = 4: step 1 has t = 0, 1, 2 and reads the tokens 1, 2, 3; step 2 has
    t = 0, 1 and reads the tokens 2, 3.

    Returns:
        predicted_N(S-i)D for i = 1 .. steps; empty where a row has no token so far ahead.
    """
    predicted, current = [], hidden_NSD
    for step in range(1, steps + 1):
        current = dynamics(current[:, :-1], embedding_NSD[:, step:])
        predicted.append(current)
    return predicted


def smooth_l1_rows(predicted: Sequence[Tensor], target_NSD: Tensor, is_token_NS: Tensor) -> Tensor:
    """Mean over the steps i and over the positions t with a token at t + i of `SmoothL1(sg h_(t+i), predicted_i,t)`.

    SmoothL1 is the mean over D, with beta 1. A row too short for a step leaves that step out; a row of one token has
    the loss 0. NextLat (arXiv 2511.05963). Computed in float32 at least.

    Args:
        predicted: What `roll_out` returns.
        is_token_NS: False for padding.

    Returns:
        loss_N.
    """
    sums, counts = [], []
    for step, predicted_NTD in enumerate(predicted, start=1):
        is_token_NT = is_token_NS[:, step:]
        dtype = torch.promote_types(predicted_NTD.dtype, torch.float32)
        difference_NTD = predicted_NTD.to(dtype) - target_NSD.detach()[:, step:].to(dtype)
        difference_NTD = difference_NTD.where(is_token_NT[..., None], 0)
        distance_NTD = F.smooth_l1_loss(difference_NTD, torch.zeros_like(difference_NTD), reduction="none")
        sums.append(distance_NTD.mean(dim=-1).sum(dim=1))
        counts.append(is_token_NT.sum(dim=1))
    return mean_of_means(torch.stack(sums), torch.stack(counts))


def kl_rows(
    predicted: Sequence[Tensor],
    target_NSD: Tensor,
    label_row_M: Tensor,
    label_position_M: Tensor,
    head: LMHead,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Tensor:
    """Mean over the steps i and over the labelled positions p = t + i of `latent_kl` between h_p and predicted_i,t.

    A row without such a position for a step leaves that step out; a row without any has the loss 0. NextLat
    (arXiv 2511.05963). The logits of a target are computed once for all steps. Example, labels after the positions 1
    and 3: step 1 compares t = 0 and t = 2 with them, step 2 has t = 1 alone.

    Args:
        predicted: What `roll_out` returns.
        label_row_M, label_position_M: The positions whose next token has a label.

    Returns:
        loss_N.
    """
    num_rows = len(target_NSD)
    steps = [(i, predicted_NTD) for i, predicted_NTD in enumerate(predicted, start=1) if predicted_NTD.shape[1] > 0]
    if not steps:
        return target_NSD.new_zeros(num_rows) + sum(one_NTD.sum() for one_NTD in predicted)  # of nothing: 0
    is_there_IM = torch.stack([label_position_M >= i for i, _ in steps])
    chosen_IMD = torch.stack([one_NTD[label_row_M, (label_position_M - i).clamp(min=0)] for i, one_NTD in steps])
    kl_IM = latent_kl(chosen_IMD, target_NSD[label_row_M, label_position_M], head, chunk_tokens)
    return mean_of_row_means(kl_IM, is_there_IM, label_row_M, num_rows)


def latent_kl(
    predicted_IMD: Tensor,
    target_MD: Tensor,
    head: LMHead,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Tensor:
    """`KL(softmax(logits(target)) || softmax(logits(predicted)))` at each position, with `logits` of the LM head.

    NextLat (arXiv 2511.05963). The gradient goes to `predicted_IMD` alone. It is computed in the forward, a chunk of
    positions at a time: no more than (chunk_tokens, V) logits stand in memory, and the backward needs no weight,
    which ZeRO-3 has divided again by then. The products are computed in autocast's type, or without it in the
    weight's; the rest in float32 at least.

    Args:
        predicted_IMD: I predictions of each target.
        chunk_tokens: Positions of a chunk.

    Returns:
        kl_IM.
    """
    needs_gradient = torch.is_grad_enabled() and predicted_IMD.requires_grad
    return _LatentKL.apply(predicted_IMD, target_MD.detach(), head.as_computed(), chunk_tokens, needs_gradient)


class _LatentKL(torch.autograd.Function):
    """kl_IM, with its gradient computed in the forward."""

    @staticmethod
    def forward(ctx, predicted_IMD: Tensor, target_MD: Tensor, head: LMHead, chunk_tokens: int, needs_gradient: bool):
        kl_IM = predicted_IMD.new_empty(predicted_IMD.shape[:-1], dtype=head.logits_dtype)
        gradient_IMD = torch.empty_like(predicted_IMD) if needs_gradient else None
        with torch.autocast(predicted_IMD.device.type, enabled=False):
            for start in range(0, len(target_MD), chunk_tokens):
                chunk = slice(start, start + chunk_tokens)
                log_target_CV = logits(target_MD[chunk], head).log_softmax(dim=-1)
                target_CV = log_target_CV.exp()
                for i, predicted_MD in enumerate(predicted_IMD):
                    logits_CV = logits(predicted_MD[chunk], head)
                    log_predicted_CV = logits_CV.log_softmax(dim=-1)
                    kl_IM[i, chunk] = torch.linalg.vecdot(target_CV, log_target_CV - log_predicted_CV)
                    if gradient_IMD is not None:
                        # d KL / d logits = softmax(predicted) - softmax(target)
                        difference_CV = log_predicted_CV.exp_().sub_(target_CV)
                        gradient_IMD[i, chunk] = _times_jacobian(difference_CV, logits_CV, head)
        ctx.save_for_backward(gradient_IMD)
        return kl_IM

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_IM: Tensor):
        (gradient_IMD,) = ctx.saved_tensors
        return grad_IM[..., None].to(gradient_IMD) * gradient_IMD, None, None, None, None


def _times_jacobian(grad_CV: Tensor, logits_CV: Tensor, head: LMHead) -> Tensor:
    """From the gradient of the logits to that of the hidden states: grad_CD."""
    if head.softcap is not None:
        # d (c tanh(x / c)) / dx = 1 - tanh(x / c)^2
        grad_CV = grad_CV * (1 - (logits_CV / head.softcap).square())
    return (grad_CV * head.logit_scale).to(head.weight_VD.dtype) @ head.weight_VD
