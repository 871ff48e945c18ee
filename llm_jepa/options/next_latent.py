"""The latent dynamics of `jepa_objective: next_latent`."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class NextLatentOptions:
    """What has an effect with `jepa_objective: next_latent`."""

    latent_predictor: Literal["mlp", "decoder_layer"] = field(
        default="mlp",
        metadata={
            "help": "The network g that foretells the next hidden state from this one and the next token: an MLP "
            "(NextLat, arXiv 2511.05963), or decoder layers (the drafter of EAGLE, arXiv 2401.15077)."
        },
    )
    latent_depth: int | None = field(
        default=None,
        metadata={"help": "Linear layers of the MLP, at least 2, or decoder layers; 3 and 1 when not given."},
    )
    latent_width: float | None = field(
        default=None,
        metadata={"help": "Width of the MLP's hidden layers over the model's, above 0; 1 when not given."},
    )
    rollout_steps: int = field(
        default=1,
        metadata={
            "help": "How many tokens ahead g foretells, each from its own last state, at least 1; with "
            "`latent_predictor: decoder_layer` 1."
        },
    )
    smooth_l1_weight: float = field(
        default=1.0, metadata={"help": "Weight of the distance between foretold and true hidden states, at least 0."}
    )
    kl_weight: float = field(
        default=1.0,
        metadata={
            "help": "Weight of the KL between the next tokens that both states foresee, at least 0; 0 computes none."
        },
    )
    detach_backbone: bool = field(
        default=False,
        metadata={
            "help": "g learns and the model does not learn from it, so that the model is SFT's: a drafter for "
            "`llm-jepa generate`. With `lm_weight: 0` a finished model stays as it is and g alone is trained."
        },
    )
