"""The loss of VL-JEPA: InfoNCE between predictions and answers, both ways, over all processes (arXiv 2512.10942).

    loss_n = d(prediction_n, target_n) + regulariser_weight * regulariser,  d by `jepa_loss`

Legend: N rows of this process, E the shared space's width.
"""

from dataclasses import dataclass

from torch import Tensor

from llm_jepa.objectives.base import ObjectiveLoss
from llm_jepa.objectives.diagnostics import paired_cosine
from llm_jepa.objectives.losses import OtherRows, pair_loss
from llm_jepa.objectives.negatives import gather_other_rows, rows_without_negatives
from llm_jepa.objectives.regulariser import regulariser_loss
from llm_jepa.options.vision import VisionLossOptions
from llm_jepa.settings.objectives import CONTRASTIVE_LOSSES, row_comparing_option


@dataclass(frozen=True)
class Place:
    """Where a micro-batch stands: its process among all, the most rows of any, and seed and step for draws."""

    max_rows: int
    rank: int = 0
    num_processes: int = 1
    seed: int = 0
    step: int = 0


def vl_jepa_loss(
    prediction_NE: Tensor,
    target_NE: Tensor,
    answer_key_N: Tensor,
    temperature: Tensor | float,
    options: VisionLossOptions,
    place: Place,
) -> ObjectiveLoss:
    """The loss of each row, and what is logged. Every process must call it.

    Args:
        answer_key_N: Equal where answers are equal; such rows are no negatives of each other.
        temperature: Of InfoNCE; a tensor with a gradient where it is learned.

    Returns:
        With the sums over rows of `jepa_cosine`, `jepa_without_negatives` and `jepa_regulariser`.
    """
    if options.jepa_target == "stop_gradient":
        target_NE = target_NE.detach()
    others: OtherRows | None = None
    if row_comparing_option(options) is not None:
        process = place.max_rows, place.rank, place.num_processes
        others = gather_other_rows(prediction_NE, target_NE, answer_key_N, *process)
    loss_N = pair_loss(options.jepa_loss, prediction_NE, target_NE, temperature, answer_key_N, others)
    sums = {"jepa_cosine": paired_cosine(prediction_NE.detach(), target_NE.detach()) * len(loss_N)}
    if options.jepa_loss in CONTRASTIVE_LOSSES:
        sums["jepa_without_negatives"] = rows_without_negatives(answer_key_N, others)
    if options.jepa_regulariser != "none":
        regulariser = regulariser_loss(
            options.jepa_regulariser, prediction_NE, target_NE, others, place.seed, place.step
        )
        loss_N = loss_N + options.regulariser_weight * regulariser
        sums["jepa_regulariser"] = regulariser.detach() * len(loss_N)
    return ObjectiveLoss(loss_N, sums, (prediction_NE, target_NE, answer_key_N))
