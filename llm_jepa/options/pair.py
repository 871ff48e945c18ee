"""Options that have an effect where a row has two views."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class PairOptions:
    """How a view predicts the other, and how both are computed."""

    num_predictor_tokens: int = field(
        default=1,
        metadata={
            "help": "k, the number of learned [PRED] vectors of the predicting view, 0 to 16. They are trained with "
            "the model and kept beside it, in `latent_predictor/`. With 0 the last content token predicts."
        },
    )
    predictor_position: Literal["append", "prepend"] = field(
        default="append", metadata={"help": "Whether the [PRED] vectors stand after the content or before it."}
    )
    jepa_loss: Literal["cosine", "l2", "mse", "info_nce", "info_nce_symmetric"] = field(
        default="cosine",
        metadata={
            "help": "Distance between prediction and target: 1 - cosine, L2, mean squared error, or InfoNCE with the "
            "other rows of the micro-batch (of all processes) as negatives, except those with the same target. "
            "`info_nce_symmetric` also picks the prediction by the target, and takes the mean of both."
        },
    )
    info_nce_temperature: float | None = field(
        default=None, metadata={"help": "Temperature of InfoNCE, above 0; 0.07 when not given."}
    )
    jepa_regulariser: Literal["none", "sigreg", "vicreg"] = field(
        default="none",
        metadata={
            "help": "A term against collapse, of both views' embeddings in the micro-batch of all processes: they "
            "become a standard Gaussian sample (`sigreg`, LeJEPA) or spread and decorrelated (`vicreg`)."
        },
    )
    regulariser_weight: float | None = field(
        default=None,
        metadata={"help": "Weight of `jepa_regulariser`, at least 0, which only logs it; 0.05 when not given."},
    )
    jepa_direction: Literal["source_to_target", "target_to_source"] = field(
        default="source_to_target", metadata={"help": "Which view predicts which."}
    )
    jepa_source_view: Literal["alone", "prefix"] = field(
        default="alone",
        metadata={
            "help": "The source is encoded by itself (`alone`, the paper), or it is the conversation's own prefix up "
            "to the end of the source (`prefix`): no FLOPs beyond its predictor tokens when packed, but a mask slows "
            "attention on a GPU."
        },
    )
    jepa_target: Literal["online", "stop_gradient", "ema"] = field(
        default="online",
        metadata={
            "help": "Gradients flow through the predicted view (`online`, the paper), or that view is encoded in a "
            "forward without gradient, by the weights (`stop_gradient`) or by their moving average over the steps "
            "(`ema`, BYOL)."
        },
    )
    ema_decay: float | None = field(
        default=None,
        metadata={
            "help": "The share that the average of `jepa_target: ema` keeps of itself in each step, at least 0 and "
            "below 1; 0.996 when not given."
        },
    )
    ema_warmup_steps: int = field(
        default=0, metadata={"help": "Number of first steps in which that share rises linearly from 0."}
    )
    jepa_readout: Literal["last", "mean"] = field(
        default="last",
        metadata={
            "help": "What is read of a view: the hidden state at its last token, or the mean over the tokens of its "
            "content. A predicting view with [PRED] vectors is always read at its last token."
        },
    )
    target_layer: float = field(
        default=1.0,
        metadata={
            "help": "Depth at which the target is read, above 0 to 1: after the nearest layer; 1.0 is the last."
        },
    )
    shuffle_pairs: bool = field(
        default=False,
        metadata={
            "help": "A control: each row gets the target view of another row, drawn once by `seed` from the rows that "
            "are kept. Labels, tokens and cost stay the same; what helps with it is not owed to the pairs."
        },
    )
    jepa_layout: Literal["auto", "packed", "flat", "rows"] = field(
        default="auto",
        metadata={
            "help": "How the sequences of a row are computed, always with the same result: each in a row of its own "
            "(`rows`), all in one row (`packed`; sdpa, eager, FlexAttention), or those of a micro-batch end to end "
            "without padding (`flat`; flash attention). `auto` takes `flat` or `packed` where the model computes "
            "it exactly, else `rows`."
        },
    )
