"""The terms of the loss and their weights."""

from dataclasses import dataclass, field
from typing import Literal

from llm_jepa.settings.objectives import ObjectiveNames


@dataclass
class ObjectiveOptions:
    """What is added to the next-token loss, and how much."""

    jepa_weight: float = field(
        default=1.0, metadata={"help": "Weight of the JEPA term (lambda), at least 0; 0 is plain SFT."}
    )
    lm_weight: float = field(
        default=1.0,
        metadata={"help": "Weight of the next-token loss (gamma), at least 0; also with `jepa_weight: 0`."},
    )
    jepa_objective: ObjectiveNames = field(
        default="pair",
        metadata={
            "help": "`pair`: one view predicts the other (LLM-JEPA). `tube` (the paper's) and `patch` (its reference "
            "code's) are Semantic Tube Prediction (arXiv 2602.22617) on the conversation's own hidden states: they "
            "need no pairs and no token more than SFT. `step` is `tube` between the ends of the target's steps (arXiv "
            "2604.18464). `next_latent`: a small network foretells the model's own next "
            "hidden states (NextLat, arXiv 2511.05963), on any text. `answer_code`: the [PRED] tokens of one view "
            "predict codes of the other, from which a small autoencoder writes it down (Semformer, arXiv 2409.11143). "
            "`multi_token`, the control without latents: "
            "further heads predict the tokens after the next (arXiv 2404.19737). "
            "`FILE.py:CLASS` is one of your own. A list of names trains on all of them at once; at most one may need "
            "views."
        },
    )
    objective_weights: list[float] | None = field(
        default=None,
        metadata={
            "help": "A weight for each objective of a list, above 0; 1 each when not given. Their weighted sum is the "
            "term of the loss that `jepa_weight` weighs."
        },
    )
    span_sampler: Literal["ends", "start_first", "uniform"] | None = field(
        default=None,
        metadata={
            "help": "Which content tokens `tube` and `patch` look at, drawn from seed, step and row. `tube`: `ends` "
            "(from the source's start to the target's end, one random token between; its default) or `uniform` (all "
            "three random). `patch`: `start_first` (start, then end; its default) or `uniform` (every span alike)."
        },
    )
    step_separator: str = field(
        default=r"\n",
        metadata={
            "help": "A regular expression that ends a step of the target, for `step`; a line end when not given."
        },
    )
    reconstruction_weight: float = field(
        default=1.0,
        metadata={
            "help": "Weight of writing the target from its codes beside predicting them, for `answer_code`, above 0. "
            "It trains the autoencoder alone."
        },
    )
    num_future_tokens: int = field(
        default=2,
        metadata={"help": "How many tokens after the next `multi_token` predicts, by a small network for each."},
    )
    jepa_dropout: float = field(
        default=0.0,
        metadata={
            "help": "Probability that an optimizer step drops the JEPA term, at least 0 and below 1; such a step "
            "computes no view tokens."
        },
    )
    jepa_dropout_rescale: bool = field(
        default=False,
        metadata={
            "help": "Divide `jepa_weight` by 1 - `jepa_dropout` in the steps that keep the term, so that its expected "
            "weight stays the same."
        },
    )
    predictor_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Learning rate of an objective's own parameters, such as the [PRED] vectors, above 0; "
            "`learning_rate` when not given."
        },
    )
