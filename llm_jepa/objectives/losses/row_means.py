"""Means over chosen positions of each row. Legend: N rows, T positions of a row, M chosen positions of all rows."""

from collections.abc import Sequence

import torch
from torch import Tensor


def mean_of_row_means(terms: Sequence[Tensor], chosen: Sequence[Tensor]) -> Tensor:
    """Mean over the terms of each one's mean over the row's chosen positions.

    A term that chooses no position of a row is left out for that row. A row with none at all gets 0, with gradient 0.

    Args:
        terms: term_M, a value for each chosen position in the order of rows and positions.
        chosen: is_chosen_NT of each term.

    Returns:
        mean_N.
    """
    means, has_position = [], []
    for term_M, is_chosen_NT in zip(terms, chosen, strict=True):
        term_NT = term_M.new_zeros(is_chosen_NT.shape).masked_scatter(is_chosen_NT, term_M)
        num_chosen_N = is_chosen_NT.sum(dim=1)
        means.append(term_NT.sum(dim=1) / num_chosen_N.clamp(min=1))
        has_position.append(num_chosen_N > 0)
    return torch.stack(means).sum(dim=0) / torch.stack(has_position).sum(dim=0).clamp(min=1)
