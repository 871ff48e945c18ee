"""InfoNCE between predictions and targets of one micro-batch.

Legend: N rows, M rows of all processes with padding, K = N + M candidates, D the model's width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from llm_jepa.objectives.losses.pairwise import as_float_pair


def info_nce_loss(
    prediction_ND: Tensor,
    target_ND: Tensor,
    temperature: float,
    negative_MD: Tensor | None = None,
    is_negative_M: Tensor | None = None,
) -> Tensor:
    """`-log softmax_j(cos(prediction_i, target_j) / temperature)` at j = i, in one direction: prediction -> target.

    The negatives of a row are the targets of the other rows and, if given, the rows of `negative_MD` at which
    `is_negative_M` is True. LLM-JEPA (arXiv 2509.14252), ablations; van den Oord et al. 2018 (arXiv 1807.03748),
    equation 4.

    Returns:
        loss_N.

    Raises:
        ValueError: The shapes differ or are not two-dimensional, there is only one row, or temperature <= 0.
    """
    prediction_ND, target_ND = as_float_pair(prediction_ND, target_ND)
    if len(prediction_ND) < 2 and negative_MD is None:
        raise ValueError("InfoNCE takes its negatives from the micro-batch, which has one row; it needs at least two.")
    if temperature <= 0:
        raise ValueError(f"The temperature is {temperature}; it must be > 0.")
    candidates_KD = target_ND
    if negative_MD is not None:
        candidates_KD = torch.cat([target_ND, negative_MD.to(target_ND.dtype)])
    with torch.autocast(prediction_ND.device.type, enabled=False):
        logits_NK = F.normalize(prediction_ND, dim=-1) @ F.normalize(candidates_KD, dim=-1).T / temperature
    if is_negative_M is not None:
        is_candidate_K = torch.cat([is_negative_M.new_ones(len(target_ND)), is_negative_M])
        logits_NK = logits_NK.masked_fill(~is_candidate_K, float("-inf"))
    return F.cross_entropy(logits_NK, torch.arange(len(logits_NK), device=logits_NK.device), reduction="none")
