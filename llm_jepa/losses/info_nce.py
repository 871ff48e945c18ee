"""InfoNCE between predictions and targets of one micro-batch.

Legend: N rows, D the model's width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from llm_jepa.losses.pairwise import as_float_pair


def info_nce_loss(prediction_ND: Tensor, target_ND: Tensor, temperature: float) -> Tensor:
    """`-log softmax_j(cos(prediction_i, target_j) / temperature)` at j = i, one way: prediction -> target.

    The negatives of a row are the targets of the other rows. LLM-JEPA (arXiv 2509.14252), ablations; van den Oord et
    al. 2018 (arXiv 1807.03748), equation 4.

    Returns:
        loss_N.

    Raises:
        ValueError: The shapes differ or are not two-dimensional, there is but one row, or temperature <= 0.
    """
    prediction_ND, target_ND = as_float_pair(prediction_ND, target_ND)
    if len(prediction_ND) < 2:
        raise ValueError("InfoNCE takes its negatives from the micro-batch, which has one row; it needs at least two.")
    if temperature <= 0:
        raise ValueError(f"The temperature is {temperature}; it must be > 0.")
    with torch.autocast(prediction_ND.device.type, enabled=False):
        logits_NN = F.normalize(prediction_ND, dim=-1) @ F.normalize(target_ND, dim=-1).T / temperature
    return F.cross_entropy(logits_NN, torch.arange(len(logits_NN), device=logits_NN.device), reduction="none")
