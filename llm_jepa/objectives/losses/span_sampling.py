"""Chooses the content tokens of Semantic Tube Prediction: uniform draws -> tubes and patches. Pure functions.

A row with too few content tokens gets zeros; the caller zeroes its loss.

Legend: N rows, L_N content tokens of each.
"""

from typing import Literal

import torch
from torch import Tensor

SpanSampler = Literal["ends", "start_first", "uniform"]
NUM_SPAN_DRAWS = 3
"""Uniform draws that a row needs."""
MIN_TUBE_TOKENS = 3
MIN_PATCH_TOKENS = 2


def sample_tube(draw_NC: Tensor, content_tokens_N: Tensor, sampler: SpanSampler) -> Tensor:
    """Content tokens s < r < t of each row: tube_N3.

    Args:
        draw_NC: Uniform in [0, 1); three for each row.
        content_tokens_N: L.
        sampler: `ends`: s = 0 and t = L - 1, r uniform between them (arXiv 2602.22617, the best there). `uniform`: all
            triples are equally likely.
    """
    L_N = content_tokens_N
    if sampler == "ends":
        tube_N3 = torch.stack([torch.zeros_like(L_N), 1 + _integer(draw_NC[:, 0], L_N - 2), L_N - 1], dim=1)
    else:
        # Three different numbers: each is drawn from the rest, then moved past the smaller ones drawn before.
        first_N, second_N = _integer(draw_NC[:, 0], L_N), _integer(draw_NC[:, 1], L_N - 1)
        second_N = second_N + (second_N >= first_N)
        low_N, high_N = torch.minimum(first_N, second_N), torch.maximum(first_N, second_N)
        third_N = _integer(draw_NC[:, 2], L_N - 2)
        third_N = third_N + (third_N >= low_N)
        third_N = third_N + (third_N >= high_N)
        tube_N3 = torch.stack([low_N, high_N, third_N], dim=1).sort(dim=1).values
    return torch.where(L_N[:, None] >= MIN_TUBE_TOKENS, tube_N3, 0)


def sample_patch(draw_NC: Tensor, content_tokens_N: Tensor, sampler: SpanSampler) -> Tensor:
    """A span [a, b) of the content of each row, shorter than the whole: patch_N2.

    Args:
        draw_NC: Uniform in [0, 1); two for each row.
        content_tokens_N: L.
        sampler: `start_first`: a is uniform, then b is uniform over the possible ends (the reference code of arXiv
            2602.22617; it favours late spans). `uniform`: all spans are equally likely.
    """
    L_N = content_tokens_N
    if sampler == "start_first":
        start_N = _integer(draw_NC[:, 0], L_N)
        # With a = 0, the end L would select the whole content.
        num_ends_N = L_N - start_N - (start_N == 0).long()
        end_N = start_N + 1 + _integer(draw_NC[:, 1], num_ends_N)
    else:
        length_N = _span_length(_integer(draw_NC[:, 0], L_N * (L_N + 1) // 2 - 1), L_N)
        start_N = _integer(draw_NC[:, 1], L_N - length_N + 1)
        end_N = start_N + length_N
    return torch.where(L_N[:, None] >= MIN_PATCH_TOKENS, torch.stack([start_N, end_N], dim=1), 0)


def _span_length(rank_N: Tensor, L_N: Tensor) -> Tensor:
    """Length of the span with a given rank, from 0, among all spans of L tokens ordered by length.

    There are L + 1 - m spans of length m, so m * L - m * (m - 1) / 2 spans have length m or less. Example, L = 3:
    ranks 0, 1, 2 have length 1, and ranks 3, 4 length 2.
    """

    def up_to(length_N: Tensor) -> Tensor:
        return length_N * L_N - length_N * (length_N - 1) // 2

    width_N = 2 * L_N.double() + 1
    root_N = (width_N - (width_N.square() - 8 * (rank_N.double() + 1)).clamp(min=0).sqrt()) / 2
    length_N = root_N.ceil().long()
    # Rounding can put the root off by one; a step either way corrects it.
    length_N = length_N - (up_to(length_N - 1) > rank_N).long()
    return length_N + (up_to(length_N) <= rank_N).long()


def _integer(draw_N: Tensor, count_N: Tensor) -> Tensor:
    """Uniform in 0 .. count - 1; 0 if count is 0."""
    return (draw_N * count_N.clamp(min=1)).long()
