"""Means over terms of their means over the positions of a row. No shape depends on a value.

Legend: I terms, N rows, M positions of all rows.
"""

import torch
from torch import Tensor


def mean_of_row_means(term_IM: Tensor, is_there_IM: Tensor, row_M: Tensor, num_rows: int) -> Tensor:
    """`mean_of_means` of terms that are given at some positions, and count where they are there: mean_N.

    Example: terms [[4, 2, 3], [5, 7, 9]], there at [[1, 1, 1], [0, 0, 1]], rows [0, 0, 1]: row 0 has the mean of 4 and
    2, row 1 that of 3 and 9; [3, 6].
    """
    sum_IN = term_IM.new_zeros(len(term_IM), num_rows).index_add(1, row_M, term_IM.where(is_there_IM, 0))
    count_IN = torch.zeros_like(sum_IN, dtype=torch.long).index_add(1, row_M, is_there_IM.long())
    return mean_of_means(sum_IN, count_IN)


def mean_of_means(sum_IN: Tensor, count_IN: Tensor) -> Tensor:
    """Mean over the terms of `sum / count`, without those that count nothing in a row; 0 where none does: mean_N."""
    return (sum_IN / count_IN.clamp(min=1)).sum(dim=0) / (count_IN > 0).sum(dim=0).clamp(min=1)
