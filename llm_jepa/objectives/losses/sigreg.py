"""SIGReg: the embeddings of a batch should be a sample of the standard Gaussian (LeJEPA, arXiv 2511.08544).

Legend: N rows, D the model's width, S directions, Q quadrature points.
"""

import torch
from torch import Tensor

from llm_jepa.objectives.losses.batch_rows import as_float_rows, mean_over_rows, num_rows

MAX_FREQUENCY = 5.0
NUM_POINTS = 17


def sigreg_loss(embedding_ND: Tensor, direction_SD: Tensor, is_row_N: Tensor | None = None) -> Tensor:
    """Mean over the directions u of the Epps-Pulley statistic of the projections x_n = u . z_n against N(0, 1).

        N * integral of |phi(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt,   phi(t) = mean_n exp(i t x_n)

    by the trapezoidal rule with 17 points from -5 to 5. LeJEPA (arXiv 2511.08544), algorithm 1; Epps and Pulley 1983.
    Its mean is sqrt(2 pi) - sqrt(2 pi / 3) = 1.06 for standard Gaussian samples of any size. Of N zeros it is 0.41 N.

    Args:
        direction_SD: Unit vectors.
        is_row_N: False for padding; None without padding.

    Returns:
        A number, in float32 at least.

    Raises:
        ValueError: There is only one row.
    """
    embedding_ND = as_float_rows(embedding_ND)
    with torch.autocast(embedding_ND.device.type, enabled=False):
        projection_NS = embedding_ND @ direction_SD.to(embedding_ND).T
    dtype, device = embedding_ND.dtype, embedding_ND.device
    t_Q = torch.linspace(-MAX_FREQUENCY, MAX_FREQUENCY, NUM_POINTS, dtype=dtype, device=device)
    gaussian_Q = torch.exp(-t_Q.square() / 2)
    angle_NSQ = projection_NS[..., None] * t_Q
    real_SQ = mean_over_rows(angle_NSQ.cos(), is_row_N)
    imaginary_SQ = mean_over_rows(angle_NSQ.sin(), is_row_N)
    squared_SQ = (real_SQ - gaussian_Q).square() + imaginary_SQ.square()
    statistic_S = num_rows(embedding_ND, is_row_N) * torch.trapezoid(squared_SQ * gaussian_Q, t_Q)
    return statistic_S.mean()
