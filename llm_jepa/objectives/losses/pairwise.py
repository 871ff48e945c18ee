"""Distances between a prediction and its target, one row at a time.

Legend: N rows, D the model's width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine_loss(prediction_ND: Tensor, target_ND: Tensor) -> Tensor:
    """`1 - cos(prediction, target)` of each row: 0 for the same direction, 2 for the opposite one.

    LLM-JEPA (arXiv 2509.14252), section 3, the default. Computed in float32 at least.

    Returns:
        loss_N.

    Raises:
        ValueError: The shapes differ or are not two-dimensional.
    """
    prediction_ND, target_ND = as_float_pair(prediction_ND, target_ND)
    return 1 - F.cosine_similarity(prediction_ND, target_ND, dim=-1)


def l2_loss(prediction_ND: Tensor, target_ND: Tensor) -> Tensor:
    """Euclidean norm of `prediction - target` of each row. LLM-JEPA (arXiv 2509.14252), ablations.

    Returns:
        loss_N.

    Raises:
        ValueError: The shapes differ or are not two-dimensional.
    """
    prediction_ND, target_ND = as_float_pair(prediction_ND, target_ND)
    return torch.linalg.vector_norm(prediction_ND - target_ND, dim=-1)


def mse_loss(prediction_ND: Tensor, target_ND: Tensor) -> Tensor:
    """Mean over the dimensions of the squared difference of each row. LLM-JEPA (arXiv 2509.14252), ablations.

    Returns:
        loss_N.

    Raises:
        ValueError: The shapes differ or are not two-dimensional.
    """
    prediction_ND, target_ND = as_float_pair(prediction_ND, target_ND)
    return (prediction_ND - target_ND).square().mean(dim=-1)


def as_float_pair(prediction_ND: Tensor, target_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Convert both to float32 at least.

    Raises:
        ValueError: The shapes differ or are not two-dimensional.
    """
    if prediction_ND.dim() != 2 or prediction_ND.shape != target_ND.shape:
        raise ValueError(
            f"The prediction has the shape {tuple(prediction_ND.shape)} and the target {tuple(target_ND.shape)}; both "
            "must be (rows, width)."
        )
    dtype = torch.promote_types(prediction_ND.dtype, torch.float32)
    return prediction_ND.to(dtype), target_ND.to(dtype)
