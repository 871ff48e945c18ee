"""The term of `jepa_regulariser`, which keeps the embeddings from collapsing, over the rows of all processes.

Legend: N rows of this process, K rows of all processes with padding, D the model's width.
"""

from typing import Literal

import torch
from torch import Tensor

from llm_jepa.objectives.draws import unit_directions
from llm_jepa.objectives.losses import OtherRows, sigreg_loss, vicreg_loss

NUM_DIRECTIONS = 256
"""Of SIGReg, as in algorithm 1 of LeJEPA (arXiv 2511.08544)."""


def regulariser_loss(
    kind: Literal["sigreg", "vicreg"],
    prediction_ND: Tensor,
    target_ND: Tensor,
    others: OtherRows | None,
    seed: int,
    step: int,
) -> Tensor:
    """The mean over both views of the term of each view's embeddings: a number, the same in every process.

    A detached view adds a number without gradient. All micro-batches and processes of a step share their directions.
    """
    views, is_row_K = [prediction_ND, target_ND], None
    if others is not None:
        pairs = zip(views, (others.prediction_MD, others.target_MD), strict=True)
        views = [torch.cat([own_ND, other_MD.to(own_ND.dtype)]) for own_ND, other_MD in pairs]
        is_row_K = torch.cat([others.is_other_M.new_ones(len(prediction_ND)), others.is_other_M])
    if kind == "vicreg":
        terms = [vicreg_loss(view_KD, is_row_K) for view_KD in views]
    else:
        direction_SD = unit_directions(seed, step, NUM_DIRECTIONS, prediction_ND.shape[1], prediction_ND.device)
        terms = [sigreg_loss(view_KD, direction_SD, is_row_K) for view_KD in views]
    return torch.stack(terms).mean()
