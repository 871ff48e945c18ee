"""Gathers rows from all processes, with gradient: the negatives of InfoNCE.

Legend: N rows of this process, B the most rows of any process, M = processes * B, D the width of the rows.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def gather_rows(
    rows_ND: Tensor, key_N: Tensor, max_rows: int, rank: int, num_processes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gather the rows and the keys of all processes in the order of their ranks, and a mask of the other processes.

    Every process must call this. Each sends `max_rows` rows, padded with zeros, so that none has to ask how many the
    others have. The gradient of a row from every process reaches the process that owns the row.

    Returns:
        all_MD, key_M, is_other_M: False for this process's own rows and for padding.
    """
    padding = max_rows - len(rows_ND)
    padded_BD = F.pad(rows_ND, (0, 0, 0, padding))
    is_row_N = torch.ones_like(key_N)
    key_M, is_row_M = _gathered(F.pad(torch.stack([key_N, is_row_N], 1), (0, 0, 0, padding)), num_processes).unbind(1)
    is_other_M = is_row_M > 0
    is_other_M[rank * max_rows : (rank + 1) * max_rows] = False
    return _GatherRows.apply(padded_BD, rank, num_processes), key_M, is_other_M


class _GatherRows(torch.autograd.Function):
    """All-gather, whose backward sums the gradients of a row over all processes."""

    @staticmethod
    def forward(ctx: Any, rows_BD: Tensor, rank: int, num_processes: int) -> Tensor:
        ctx.own = slice(rank * len(rows_BD), (rank + 1) * len(rows_BD))
        return _gathered(rows_BD, num_processes)

    @staticmethod
    def backward(ctx: Any, gradient_MD: Tensor) -> tuple[Tensor, None, None]:
        # Autograd owns `gradient_MD`, and `all_reduce` writes in place.
        summed_MD = gradient_MD.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed_MD)
        return summed_MD[ctx.own], None, None


def _gathered(rows: Tensor, num_processes: int) -> Tensor:
    parts = [torch.empty_like(rows) for _ in range(num_processes)]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
