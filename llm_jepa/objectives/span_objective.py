"""What `tube` and `patch` share: Semantic Tube Prediction (arXiv 2602.22617) on the conversation's own hidden states.

They need no pairs and no token more than SFT. Legend: N rows, S tokens of a row, D the model's width, C draws.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from llm_jepa.data.rows import SPAN_COLUMNS
from llm_jepa.objectives.base import LossInputs, Objective, ObjectiveLoss, refuse_draws_on_mps
from llm_jepa.objectives.draws import uniform_draws
from llm_jepa.objectives.losses import NUM_SPAN_DRAWS
from llm_jepa.settings.objectives import RowNeeds, as_written


class SpanObjective(Objective):
    """Reads the hidden states at content tokens chosen by draws from seed, step and row."""

    row_needs: ClassVar[RowNeeds] = "spans"
    reads_hidden_states = True

    def check(self, device_type: str, train_dataset: Any, eval_dataset: Any) -> None:
        """Refuse a device without float64, in which the draws are made."""
        refuse_draws_on_mps(f"jepa_objective: {as_written(self.args.jepa_objective)}", device_type)

    def extras(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """The spans of source and target in the conversations."""
        return {f"{name}_N2": torch.tensor([row[name] for row in rows]) for name in SPAN_COLUMNS}

    def loss(self, inputs: LossInputs) -> ObjectiveLoss:
        """The loss of each row by the draws of its step."""
        hidden_NSD = inputs.outputs.hidden_NSD
        assert hidden_NSD is not None
        draw_NC = uniform_draws(inputs.place.seed, inputs.place.step, inputs.row_index_N, NUM_SPAN_DRAWS)
        return ObjectiveLoss(self.span_loss(hidden_NSD, draw_NC, **inputs.extras))

    @abstractmethod
    def span_loss(self, hidden_NSD: Tensor, draw_NC: Tensor, source_span_N2: Tensor, target_span_N2: Tensor) -> Tensor:
        """The loss on the content tokens that the draws choose: loss_N, 0 for a row with too few of them."""
