"""Rows of a micro-batch -> tensors: the conversations as TRL pads them, and what the objective adds."""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DataCollator

from llm_jepa.config import JEPAConfig
from llm_jepa.layouts import Layout
from llm_jepa.layouts.base import lay_out_conversations
from llm_jepa.objectives.base import Objective
from llm_jepa.objectives.registry import new_objective

TENSOR_COLUMNS = (
    "input_ids",
    "labels",
    "source_ids",
    "source_start",
    "target_ids",
    "target_start",
    "source_span",
    "target_span",
    "step_ends",
    "row_index",
)


@dataclass
class JEPACollator:
    """Collates rows for the trainer.

    Args:
        conversation_collator: TRL's own, for `input_ids`, `labels` and `attention_mask` of the conversations.
        layout: How the sequences of a row are laid out; None for the LM-only arm.
        config: The options; they name the objective.

    Returns (when called):
        TRL's batch with `row_index` and, unless the layout is None, `laid_out` (`Objective.lay_out`), `extras`
        (`Objective.extras`), and `laid_out_conversations`, the conversations alone, for steps that drop the term.
    """

    conversation_collator: DataCollator
    layout: Layout | None
    config: JEPAConfig

    @functools.cached_property
    def objective(self) -> Objective | None:
        """The objective that lays a batch out."""
        return new_objective(self.config)

    def __getstate__(self) -> dict[str, Any]:
        """Without the objective, whose class a worker process of a loader loads itself."""
        return {name: value for name, value in vars(self).items() if name != "objective"}

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate one micro-batch."""
        batch = dict(self.conversation_collator([{k: row[k] for k in ("input_ids", "labels")} for row in rows]))
        batch["row_index"] = torch.tensor([row["row_index"] for row in rows])
        if self.layout is None or self.objective is None:
            return batch
        batch["laid_out"] = self.objective.lay_out(rows, self.layout)
        batch["extras"] = self.objective.extras(rows)
        if self.config.jepa_dropout > 0:
            batch["laid_out_conversations"] = lay_out_conversations(rows, self.layout)
        return batch
