"""The token sequences of a row's views, with [PRED] vectors where one predicts; how each is read out; their layout."""

import logging
from collections.abc import Mapping
from typing import Any, Literal

from transformers import PreTrainedModel

from llm_jepa.data.views import TokenSequence, with_predictor_tokens
from llm_jepa.layouts import Layout, PackedLayout
from llm_jepa.layouts.base import plain_sequence
from llm_jepa.layouts.choice import choose_layout
from llm_jepa.layouts.masks import MaskForm

logger = logging.getLogger(__name__)

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


def choose_view_layout(
    options: Any, model: PreTrainedModel, pad_token_id: int, pad_to_multiple_of: int | None
) -> tuple[Layout, MaskForm, str]:
    """The layout that `jepa_layout` asks for, the form of its mask, and the reason.

    Warns where `prefix` saves nothing.
    """
    wanted = options.jepa_layout
    layout, form, reason = choose_layout(model, wanted, pad_token_id, pad_to_multiple_of)
    if options.jepa_source_view == "prefix" and wanted == "auto" and not isinstance(layout, PackedLayout):
        logger.warning(
            "`jepa_source_view: prefix` costs no less than `alone` in the layout %s, which computes the shared "
            "prefix again. The layout packed needs an attention that takes a mask: sdpa, eager, flex_attention.",
            layout.name,
        )
    return layout, form, reason
