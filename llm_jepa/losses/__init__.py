"""Pure loss functions: tensors in, one loss per row out."""

from typing import Literal

from torch import Tensor

from llm_jepa.losses.info_nce import info_nce_loss
from llm_jepa.losses.pairwise import cosine_loss, l2_loss, mse_loss

__all__ = ["cosine_loss", "info_nce_loss", "l2_loss", "mse_loss", "pair_loss"]

_PAIRWISE = {"cosine": cosine_loss, "l2": l2_loss, "mse": mse_loss}


def pair_loss(
    kind: Literal["cosine", "l2", "mse", "info_nce"],
    prediction_ND: Tensor,
    target_ND: Tensor,
    temperature: float | None = None,
) -> Tensor:
    """The loss of a kind, by its name in a recipe: loss_N. `temperature` is for `info_nce` alone."""
    if kind == "info_nce":
        assert temperature is not None, "JEPAConfig resolves the temperature"
        return info_nce_loss(prediction_ND, target_ND, temperature)
    return _PAIRWISE[kind](prediction_ND, target_ND)
