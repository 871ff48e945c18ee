"""Pure loss functions: tensors in, one loss per row out; or one number for the batch (SIGReg, VICReg)."""

from typing import Literal

from torch import Tensor

from llm_jepa.objectives.losses.answer_code import code_regression_rows, reconstruction_rows
from llm_jepa.objectives.losses.info_nce import (
    OtherRows,
    info_nce_loss,
    negatives_mask,
    symmetric_info_nce_loss,
)
from llm_jepa.objectives.losses.lm_head import LMHead
from llm_jepa.objectives.losses.multi_token import multi_token_rows
from llm_jepa.objectives.losses.next_latent import kl_rows, roll_out, smooth_l1_rows
from llm_jepa.objectives.losses.pairwise import cosine_loss, l2_loss, mse_loss
from llm_jepa.objectives.losses.semantic_tube import (
    MIN_STEPS,
    content_tokens,
    patch_loss,
    step_loss,
    tube_loss,
)
from llm_jepa.objectives.losses.sigreg import sigreg_loss
from llm_jepa.objectives.losses.span_sampling import (
    MIN_PATCH_TOKENS,
    MIN_TUBE_TOKENS,
    NUM_SPAN_DRAWS,
    sample_patch,
    sample_tube,
)
from llm_jepa.objectives.losses.vicreg import vicreg_loss

__all__ = [
    "MIN_PATCH_TOKENS",
    "MIN_STEPS",
    "MIN_TUBE_TOKENS",
    "NUM_SPAN_DRAWS",
    "LMHead",
    "OtherRows",
    "code_regression_rows",
    "content_tokens",
    "kl_rows",
    "multi_token_rows",
    "negatives_mask",
    "pair_loss",
    "patch_loss",
    "reconstruction_rows",
    "roll_out",
    "sample_patch",
    "sample_tube",
    "sigreg_loss",
    "smooth_l1_rows",
    "step_loss",
    "tube_loss",
    "vicreg_loss",
]

PairLoss = Literal["cosine", "l2", "mse", "info_nce", "info_nce_symmetric"]
_PAIRWISE = {"cosine": cosine_loss, "l2": l2_loss, "mse": mse_loss}
_CONTRASTIVE = {"info_nce": info_nce_loss, "info_nce_symmetric": symmetric_info_nce_loss}


def pair_loss(
    kind: PairLoss,
    prediction_ND: Tensor,
    target_ND: Tensor,
    temperature: float | Tensor | None = None,
    target_key_N: Tensor | None = None,
    others: OtherRows | None = None,
) -> Tensor:
    """The loss that a recipe names, `jepa_loss`: loss_N. The arguments after the targets are for InfoNCE alone."""
    if kind in _CONTRASTIVE:
        assert temperature is not None, "JEPAConfig resolves the temperature"
        return _CONTRASTIVE[kind](prediction_ND, target_ND, temperature, target_key_N, others)
    return _PAIRWISE[kind](prediction_ND, target_ND)
