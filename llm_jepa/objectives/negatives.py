"""The negatives of InfoNCE: the rows of other processes, and which rows have none."""

import torch
from torch import Tensor

from llm_jepa.objectives.base import Place
from llm_jepa.objectives.gathering import gather_rows
from llm_jepa.objectives.losses import OtherRows, negatives_mask


def gather_other_rows(
    prediction_ND: Tensor, target_ND: Tensor, target_key_N: Tensor, place: Place
) -> OtherRows | None:
    """Gather the rows of all processes. Every process must call this.

    Returns:
        None if there is one process.
    """
    if place.num_processes == 1:
        return None
    pair_NE = torch.cat([prediction_ND.float(), target_ND.float()], dim=1)
    pair_ME, key_M, is_other_M = gather_rows(pair_NE, target_key_N, place.max_rows, place.rank, place.num_processes)
    prediction_MD, target_MD = pair_ME.chunk(2, dim=1)
    return OtherRows(prediction_MD, target_MD, key_M, is_other_M)


def rows_without_negatives(target_key_N: Tensor, others: OtherRows | None) -> Tensor:
    """How many rows have no negative, since every other row has the same target. Their loss is 0."""
    return (~negatives_mask(len(target_key_N), target_key_N, others).any(dim=1)).sum()
