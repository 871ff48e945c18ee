"""What is known of each objective without torch: what it needs of a row, and which options have an effect with it."""

from dataclasses import dataclass
from typing import Literal

RowNeeds = Literal["views", "spans"]
"""Two views, each a sequence of its own; or the spans of source and target in the conversation."""
SpanSampler = Literal["ends", "start_first", "uniform"]

PAIR_OPTIONS = (
    "num_predictor_tokens",
    "predictor_position",
    "jepa_loss",
    "info_nce_temperature",
    "jepa_direction",
    "jepa_source_view",
    "jepa_target",
    "jepa_layout",
    "shuffle_pairs",
    "source_view_column",
    "target_view_column",
)
"""Options that have an effect with views alone."""
CONTRASTIVE_LOSSES = ("info_nce", "info_nce_symmetric")


@dataclass(frozen=True)
class ObjectiveTraits:
    """What an objective is to the code that runs before a model.

    Attributes:
        row_needs: What it needs of a row. Plain text without pairs has spans, and no views.
        span_samplers: How it may choose content tokens, its default first; none if it looks at no span.
    """

    row_needs: RowNeeds
    span_samplers: tuple[SpanSampler, ...] = ()


OBJECTIVES = {
    "pair": ObjectiveTraits("views"),
    "tube": ObjectiveTraits("spans", ("ends", "uniform")),
    "patch": ObjectiveTraits("spans", ("start_first", "uniform")),
}


def needs_views(objective: str) -> bool:
    """Whether an objective needs two views of a row."""
    return OBJECTIVES[objective].row_needs == "views"
