"""The token sequences of a row's views: with [PRED] vectors where it predicts, and how each is read out."""

from collections.abc import Mapping
from typing import Any, Literal

from llm_jepa.data.views import TokenSequence, with_predictor_tokens
from llm_jepa.layouts.base import plain_sequence

ViewName = Literal["source", "target"]


def view_names(direction: Literal["source_to_target", "target_to_source"]) -> tuple[ViewName, ViewName]:
    """Column stems of the predicting view and the predicted one."""
    return ("source", "target") if direction == "source_to_target" else ("target", "source")


def content_sequence(row: Mapping[str, Any], view: ViewName, options: Any) -> TokenSequence:
    """A view without [PRED] vectors, read out as `jepa_readout` says."""
    mean_start = row[f"{view}_start"] if options.jepa_readout == "mean" else None
    return plain_sequence(row[f"{view}_ids"], mean_start)


def predicting_sequence(row: Mapping[str, Any], view: ViewName, options: Any, placeholder_id: int) -> TokenSequence:
    """The predicting view; with [PRED] vectors it is read out at its last token."""
    k, position = options.num_predictor_tokens, options.predictor_position
    if k == 0:
        return content_sequence(row, view, options)
    return with_predictor_tokens(row[f"{view}_ids"], row[f"{view}_start"], k, position, placeholder_id)
