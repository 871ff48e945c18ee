"""The loss of pairs of embeddings, that of LLM-JEPA (arXiv 2509.14252) and of VL-JEPA (arXiv 2512.10942).

    loss_n = d(prediction_n, target_n) + regulariser_weight * regulariser,  d by `jepa_loss`

Legend: N rows of this process, D the embeddings' width.
"""

from torch import Tensor

from llm_jepa.objectives.base import ObjectiveLoss, Place
from llm_jepa.objectives.diagnostics import paired_cosine
from llm_jepa.objectives.losses import OtherRows, pair_loss
from llm_jepa.objectives.negatives import gather_other_rows, rows_without_negatives
from llm_jepa.objectives.regulariser import regulariser_loss
from llm_jepa.options.pair import PairOptions
from llm_jepa.options.vision import VisionLossOptions
from llm_jepa.settings.objectives import CONTRASTIVE_LOSSES, row_comparing_option


def pair_term(
    prediction_ND: Tensor,
    target_ND: Tensor,
    target_key_N: Tensor,
    temperature: Tensor | float | None,
    options: PairOptions | VisionLossOptions,
    place: Place,
) -> ObjectiveLoss:
    """The loss of each row, and what is logged. Every process must call it.

    Args:
        target_key_N: Equal where targets are equal; such rows are no negatives of each other.
        temperature: Of InfoNCE; a tensor with a gradient where it is learned.

    Returns:
        With the sums over rows of `jepa_cosine`, `jepa_without_negatives` and `jepa_regulariser`.
    """
    if options.jepa_target != "online":
        target_ND = target_ND.detach()
    others: OtherRows | None = None
    if row_comparing_option(options) is not None:
        others = gather_other_rows(prediction_ND, target_ND, target_key_N, place)
    loss_N = pair_loss(options.jepa_loss, prediction_ND, target_ND, temperature, target_key_N, others)
    sums = {"jepa_cosine": paired_cosine(prediction_ND.detach(), target_ND.detach()) * len(loss_N)}
    if options.jepa_loss in CONTRASTIVE_LOSSES:
        sums["jepa_without_negatives"] = rows_without_negatives(target_key_N, others)
    if options.jepa_regulariser != "none":
        kind, weight = options.jepa_regulariser, options.regulariser_weight
        assert weight is not None, "JEPAConfig resolves the weight"
        regulariser = regulariser_loss(kind, prediction_ND, target_ND, others, place.seed, place.step)
        loss_N = loss_N + weight * regulariser
        sums["jepa_regulariser"] = regulariser.detach() * len(loss_N)
    return ObjectiveLoss(loss_N, sums, (prediction_ND, target_ND, target_key_N))
