"""Rows of a micro-batch -> tensors: the conversations as TRL pads them, and the laid-out views beside them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DataCollator

from llm_jepa.config import JEPAConfig
from llm_jepa.data.rows import SPAN_COLUMNS
from llm_jepa.data.views import TokenSequence, with_predictor_tokens
from llm_jepa.layouts import Example, LaidOut, Layout, RowsLayout

TENSOR_COLUMNS = (
    "input_ids",
    "labels",
    "source_ids",
    "source_start",
    "target_ids",
    "target_start",
    "source_span",
    "target_span",
    "row_index",
)


@dataclass
class JEPACollator:
    """Collates rows for the trainer.

    Args:
        conversation_collator: TRL's own, for `input_ids`, `labels` and `attention_mask` of the conversations.
        layout: How the sequences of a row are laid out; None for the LM-only arm, which has no views.
        config: Objective, direction, predictor tokens, stop-gradient and dropout.

    Returns (when called):
        TRL's batch with `row_index` and, unless the layout is None:
        `laid_out`: what the model computes, a `LaidOut`. For the objective `pair` it holds the views; for the others
            the conversations alone.
        `laid_out_conversations`: the conversations alone, for steps that drop the JEPA term.
        `target_key`: for `pair`, a number for each row that is equal where the predicted views are equal.
        `spans`: `source_span_N2` and `target_span_N2` in the conversations, for the objectives other than `pair`.
    """

    conversation_collator: DataCollator
    layout: Layout | None
    config: JEPAConfig

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate one micro-batch."""
        batch = dict(self.conversation_collator([{k: row[k] for k in ("input_ids", "labels")} for row in rows]))
        batch["row_index"] = torch.tensor([row["row_index"] for row in rows])
        if self.layout is None:
            return batch
        if self.config.jepa_objective == "pair":
            batch["laid_out"] = self._with_views(rows, self.layout)
            predicted = f"{self._view_names()[1]}_ids"
            batch["target_key"] = torch.tensor([token_key(row[predicted]) for row in rows])
        else:
            batch["laid_out"] = _conversations(rows, self.layout)
            batch["spans"] = {f"{name}_N2": torch.tensor([row[name] for row in rows]) for name in SPAN_COLUMNS}
        if self.config.jepa_dropout > 0:
            batch["laid_out_conversations"] = _conversations(rows, self.layout)
        return batch

    def _with_views(self, rows: list[dict[str, Any]], layout: Layout) -> LaidOut:
        predicting, predicted = self._view_names()
        k, position = self.config.num_predictor_tokens, self.config.predictor_position
        targets = [_plain(row[f"{predicted}_ids"]) for row in rows]
        is_detached = self._targets_are_detached()
        examples = []
        for row, target in zip(rows, targets, strict=True):
            prediction = with_predictor_tokens(
                row[f"{predicting}_ids"], row[f"{predicting}_start"], k, position, layout.pad_token_id
            )
            views = (prediction,) if is_detached else (prediction, target)
            examples.append(Example(_plain(row["input_ids"]), row["labels"], views))
        detached = None
        if is_detached:
            detached = layout.unshared.lay_out([Example(target, (), ()) for target in targets])
        return LaidOut(layout.lay_out(examples), detached)

    def _view_names(self) -> tuple[str, str]:
        """Column stems of the predicting view and the predicted one."""
        return ("source", "target") if self.config.jepa_direction == "source_to_target" else ("target", "source")

    def _targets_are_detached(self) -> bool:
        """Whether targets have a forward of their own: without gradient, and not stored with the conversation."""
        if self.config.jepa_target == "online":
            return False
        is_stored = self.config.jepa_source_view == "prefix" and self._view_names()[1] == "source"
        return not (is_stored and not isinstance(self.layout, RowsLayout))


def token_key(token_ids: Sequence[int]) -> int:
    """A signed 64-bit digest of token ids, the same in every process and on every machine."""
    digest = hashlib.blake2b(np.asarray(token_ids, dtype="<i8").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _conversations(rows: list[dict[str, Any]], layout: Layout) -> LaidOut:
    return LaidOut(layout.unshared.lay_out([Example(_plain(row["input_ids"]), row["labels"], ()) for row in rows]))


def _plain(token_ids: list[int]) -> TokenSequence:
    return TokenSequence(tuple(token_ids), (0,) * len(token_ids))
