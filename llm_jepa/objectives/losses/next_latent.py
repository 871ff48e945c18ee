"""Next-latent prediction: the dynamics g(h, x) should foretell the model's later hidden states (arXiv 2511.05963).

A row begins at position 0, and its padding is at the end.

Legend: N rows, S positions of a row, D the model's width, V tokens of the vocabulary, M chosen positions, C positions
of a chunk, I steps.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from llm_jepa.objectives.losses.lm_head import CHUNK_TOKENS, LMHead, logits
from llm_jepa.objectives.losses.row_means import mean_of_row_means

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

    def distance(predicted_MD: Tensor, target_MD: Tensor) -> Tensor:
        dtype = torch.promote_types(predicted_MD.dtype, torch.float32)
        return F.smooth_l1_loss(predicted_MD.to(dtype), target_MD.to(dtype), reduction="none").mean(dim=-1)

    return _mean_over_steps(distance, predicted, target_NSD, is_token_NS)


def kl_rows(
    predicted: Sequence[Tensor],
    target_NSD: Tensor,
    is_labelled_NS: Tensor,
    head: LMHead,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Tensor:
    """Mean over the steps i and over the labelled positions p = t + i of `latent_kl` between h_p and predicted_i,t.

    A row without such a position for a step leaves that step out; a row without any has the loss 0. NextLat
    (arXiv 2511.05963).

    Args:
        predicted: What `roll_out` returns.
        is_labelled_NS: Whether the token after a position has a label.

    Returns:
        loss_N.
    """

    def divergence(predicted_MD: Tensor, target_MD: Tensor) -> Tensor:
        return latent_kl(predicted_MD, target_MD, *head, chunk_tokens)

    return _mean_over_steps(divergence, predicted, target_NSD, is_labelled_NS)


def latent_kl(
    predicted_MD: Tensor,
    target_MD: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None = None,
    logit_scale: float = 1.0,
    softcap: float | None = None,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Tensor:
    """`KL(softmax(logits(target)) || softmax(logits(predicted)))` of each position, with `logits` of the LM head.

    NextLat (arXiv 2511.05963). The gradient goes to `predicted_MD` alone. It is computed in the forward, a chunk of
    positions at a time: no more than (chunk_tokens, V) logits stand in memory, and the backward needs no weight,
    which ZeRO-3 has divided again by then. The products are computed in autocast's type, or without it in the
    weight's; the rest in float32 at least.

    Args:
        weight_VD, bias_V, logit_scale, softcap: Those of `LMHead`.
        chunk_tokens: Positions of a chunk.

    Returns:
        kl_M.
    """
    needs_gradient = torch.is_grad_enabled() and predicted_MD.requires_grad
    head = LMHead(weight_VD, bias_V, logit_scale, softcap)
    return _LatentKL.apply(predicted_MD, target_MD.detach(), head.as_computed(), chunk_tokens, needs_gradient)


class _LatentKL(torch.autograd.Function):
    """kl_M, with its gradient computed in the forward."""

    @staticmethod
    def forward(ctx, predicted_MD: Tensor, target_MD: Tensor, head: LMHead, chunk_tokens: int, needs_gradient: bool):
        gradient_MD = torch.empty_like(predicted_MD) if needs_gradient else None
        kl_chunks = []
        with torch.autocast(predicted_MD.device.type, enabled=False):
            for start in range(0, max(len(predicted_MD), 1), chunk_tokens):
                chunk = slice(start, start + chunk_tokens)
                log_target_CV = logits(target_MD[chunk], head).log_softmax(dim=-1)
                predicted_CV = logits(predicted_MD[chunk], head)
                log_predicted_CV = predicted_CV.log_softmax(dim=-1)
                kl_CV = F.kl_div(log_predicted_CV, log_target_CV, reduction="none", log_target=True)
                kl_chunks.append(kl_CV.sum(dim=-1))
                if gradient_MD is not None:
                    # d KL / d logits = softmax(predicted) - softmax(target)
                    difference_CV = log_predicted_CV.exp_().sub_(log_target_CV.exp_())
                    gradient_MD[chunk] = _times_jacobian(difference_CV, predicted_CV, head)
        ctx.save_for_backward(gradient_MD)
        return torch.cat(kl_chunks)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_M: Tensor):
        (gradient_MD,) = ctx.saved_tensors
        return grad_M[:, None].to(gradient_MD) * gradient_MD, None, None, None, None


def _times_jacobian(grad_CV: Tensor, logits_CV: Tensor, head: LMHead) -> Tensor:
    """From the gradient of the logits to that of the hidden states: grad_CD."""
    if head.softcap is not None:
        # d (c tanh(x / c)) / dx = 1 - tanh(x / c)^2
        grad_CV = grad_CV * (1 - (logits_CV / head.softcap).square())
    return (grad_CV * head.logit_scale).to(head.weight_VD.dtype) @ head.weight_VD


def _mean_over_steps(
    term: Callable[[Tensor, Tensor], Tensor], predicted: Sequence[Tensor], target_NSD: Tensor, is_chosen_NS: Tensor
) -> Tensor:
    """Mean over the steps i of the mean of `term` over the row's chosen positions t + i, which are all it computes."""
    chosen = [is_chosen_NS[:, step:] for step in range(1, len(predicted) + 1)]
    terms = [
        term(predicted_NTD[is_chosen_NT], target_NSD.detach()[:, step:][is_chosen_NT])
        for step, (predicted_NTD, is_chosen_NT) in enumerate(zip(predicted, chosen, strict=True), start=1)
    ]
    return mean_of_row_means(terms, chosen)
