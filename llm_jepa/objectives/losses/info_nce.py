"""InfoNCE between predictions and targets of one micro-batch.

Rows whose targets are the same text are no negatives of each other: each one's target is a right answer of the other.

Legend: N rows, M rows of all processes with padding, K = N + M candidates, D the model's width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from llm_jepa.objectives.losses.pairwise import as_float_pair


class OtherRows(NamedTuple):
    """The rows of all processes: `is_other_M` is False for those of this process and for padding.

    `target_key_M` is equal for two rows if and only if their targets are the same tokens.
    """

    prediction_MD: Tensor
    target_MD: Tensor
    target_key_M: Tensor
    is_other_M: Tensor


def info_nce_loss(
    prediction_ND: Tensor,
    target_ND: Tensor,
    temperature: float | Tensor,
    target_key_N: Tensor | None = None,
    others: OtherRows | None = None,
) -> Tensor:
    """`-log softmax_j(cos(prediction_i, target_j) / temperature)` at j = i, in one direction: prediction -> target.

    The negatives j of row i are the other rows, of this micro-batch and of `others`, whose target differs from that of
    row i. A row without negatives has the loss 0. LLM-JEPA (arXiv 2509.14252), ablations; van den Oord et al. 2018
    (arXiv 1807.03748), equation 4; without false negatives: Huynh et al. 2020 (arXiv 2011.11765), elimination.

    Args:
        temperature: A tensor of one number where it is learned.
        target_key_N: As in `OtherRows`; None if all targets differ.

    Returns:
        loss_N.

    Raises:
        ValueError: The shapes differ or are not two-dimensional, there is only one row, or temperature <= 0.
    """
    prediction_ND, target_ND = as_float_pair(prediction_ND, target_ND)
    candidates_KD = target_ND if others is None else torch.cat([target_ND, others.target_MD.to(target_ND.dtype)])
    return _cross_entropy(prediction_ND, candidates_KD, temperature, target_key_N, others)


def symmetric_info_nce_loss(
    prediction_ND: Tensor,
    target_ND: Tensor,
    temperature: float | Tensor,
    target_key_N: Tensor | None = None,
    others: OtherRows | None = None,
) -> Tensor:
    """The mean of InfoNCE from prediction to target and from target to prediction: loss_N.

    As in CLIP (Radford et al. 2021, arXiv 2103.00020). Arguments and errors are those of `info_nce_loss`.
    """
    swapped = None
    if others is not None:
        swapped = others._replace(prediction_MD=others.target_MD, target_MD=others.prediction_MD)
    forward_N = info_nce_loss(prediction_ND, target_ND, temperature, target_key_N, others)
    return (forward_N + info_nce_loss(target_ND, prediction_ND, temperature, target_key_N, swapped)) / 2


def negatives_mask(num_rows: int, target_key_N: Tensor | None, others: OtherRows | None) -> Tensor:
    """Whether candidate k is a negative of row n: is_negative_NK.

    Example: the keys [7, 7, 9] give [[0, 0, 1], [0, 0, 1], [1, 1, 0]].
    """
    if target_key_N is None:
        assert others is None, "rows of other processes come with keys"
        return ~torch.eye(num_rows, dtype=torch.bool)
    if others is None:
        return target_key_N[:, None] != target_key_N[None, :]
    key_K = torch.cat([target_key_N, others.target_key_M])
    is_row_K = torch.cat([others.is_other_M.new_ones(num_rows), others.is_other_M])
    return (target_key_N[:, None] != key_K[None, :]) & is_row_K


def _cross_entropy(
    query_ND: Tensor, candidate_KD: Tensor, temperature: float | Tensor, key_N: Tensor | None, others: OtherRows | None
) -> Tensor:
    num_rows = len(query_ND)
    if num_rows < 2 and others is None:
        raise ValueError("InfoNCE takes its negatives from the micro-batch, which has one row; it needs at least two.")
    if temperature <= 0:
        raise ValueError(f"The temperature is {temperature}; it must be > 0.")
    with torch.autocast(query_ND.device.type, enabled=False):
        logits_NK = F.normalize(query_ND, dim=-1) @ F.normalize(candidate_KD, dim=-1).T / temperature
    own_N = torch.arange(num_rows, device=query_ND.device)
    is_candidate_NK = negatives_mask(num_rows, key_N, others).to(query_ND.device)
    is_candidate_NK = is_candidate_NK | (torch.arange(len(candidate_KD), device=own_N.device) == own_N[:, None])
    return F.cross_entropy(logits_NK.masked_fill(~is_candidate_NK, float("-inf")), own_N, reduction="none")
