"""VICReg's variance and covariance terms: no dimension of the embeddings is constant, no two say the same.

Legend: N rows, D the model's width.
"""

import torch
from torch import Tensor

from llm_jepa.objectives.losses.batch_rows import as_float_rows, mean_over_rows, num_rows

MIN_STANDARD_DEVIATION = 1.0
VARIANCE_OFFSET = 1e-4
COVARIANCE_WEIGHT = 1 / 25


def vicreg_loss(embedding_ND: Tensor, is_row_N: Tensor | None = None) -> Tensor:
    """The variance hinge plus 1/25 of the covariance term, the published ratio of their weights.

        variance   = mean_d max(0, 1 - sqrt(C_dd + 1e-4))
        covariance = sum_{d != e} C_de^2 / D,   C the covariance of the rows, divided by N - 1

    VICReg (arXiv 2105.04906), equations 1 to 4. Its invariance term is the distance of the pair.

    Args:
        is_row_N: False for padding; None without padding.

    Returns:
        A number, in float32 at least.

    Raises:
        ValueError: There is only one row.
    """
    embedding_ND = as_float_rows(embedding_ND)
    degrees = num_rows(embedding_ND, is_row_N) - 1
    centred_ND = embedding_ND - mean_over_rows(embedding_ND, is_row_N)
    if is_row_N is not None:
        centred_ND = centred_ND * is_row_N[:, None]
    variance_D = centred_ND.square().sum(dim=0) / degrees
    hinge = (MIN_STANDARD_DEVIATION - (variance_D + VARIANCE_OFFSET).sqrt()).clamp(min=0).mean()
    with torch.autocast(embedding_ND.device.type, enabled=False):
        gram_NN = centred_ND @ centred_ND.T
    # The Gram matrix of the rows has the squared norm of that of the columns, which is D x D.
    squared_norm = (gram_NN / degrees).square().sum()
    covariance = (squared_norm - variance_D.square().sum()) / embedding_ND.shape[1]
    return hinge + COVARIANCE_WEIGHT * covariance
