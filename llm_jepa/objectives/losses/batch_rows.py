"""Means over the rows of a batch that may have padding, for terms that look at the whole batch. Legend: N rows."""

import torch
from torch import Tensor


def as_float_rows(embedding_ND: Tensor) -> Tensor:
    """Convert to float32 at least.

    Raises:
        ValueError: There is only one row, which has no spread.
    """
    if len(embedding_ND) < 2:
        raise ValueError(f"A regulariser looks at the spread of a batch; it needs two rows, not {len(embedding_ND)}.")
    return embedding_ND.to(torch.promote_types(embedding_ND.dtype, torch.float32))


def num_rows(rows: Tensor, is_row_N: Tensor | None) -> Tensor | int:
    """How many rows there are, padding left out."""
    return len(rows) if is_row_N is None else is_row_N.sum()


def mean_over_rows(rows: Tensor, is_row_N: Tensor | None) -> Tensor:
    """The mean along the first dimension. `is_row_N` is False for padding; None without padding."""
    if is_row_N is None:
        return rows.mean(dim=0)
    return torch.tensordot(is_row_N.to(rows), rows, dims=1) / is_row_N.sum()
