"""`step`: the ends of the target's steps should lie on a line (Semantic Step Prediction, arXiv 2604.18464).

    loss = mean over consecutive step ends s < r < t of 1 - cos(h_t - h_r, h_r - h_s)

It is `tube` at the joints of a text: the lines of a derivation, or what `step_separator` divides. No draws, no pairs
and no token more than SFT. Legend: N rows, S tokens of a row, C the most steps of a row, D the model's width.
"""

from typing import Any, ClassVar

import torch
from datasets import Dataset
from torch import Tensor

from llm_jepa.data.rows import STEP_COLUMN
from llm_jepa.objectives.base import LossInputs, Objective, ObjectiveLoss
from llm_jepa.objectives.losses import MIN_STEPS, step_loss
from llm_jepa.settings.objectives import RowNeeds


class StepObjective(Objective):
    """Predicts the direction of a step from that of the step before."""

    row_needs: ClassVar[RowNeeds] = "steps"
    reads_hidden_states = True

    def check(self, device_type: str, train_dataset: Any, eval_dataset: Any) -> None:
        """Refuse data in which no row has three steps."""
        if isinstance(train_dataset, Dataset) and all(len(ends) < MIN_STEPS for ends in train_dataset[STEP_COLUMN]):
            raise ValueError(
                f"No target has {MIN_STEPS} steps, so `jepa_objective: step` would do nothing. Set `step_separator` "
                "to what divides the steps of these data."
            )

    def extras(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """`step_end_NC`, the positions of the step ends, padded with -1."""
        ends = [torch.tensor(row[STEP_COLUMN], dtype=torch.long) for row in rows]
        return {"step_end_NC": torch.nn.utils.rnn.pad_sequence(ends, batch_first=True, padding_value=-1)}

    def loss(self, inputs: LossInputs) -> ObjectiveLoss:
        """`step_loss`; 0 for a row with fewer than three steps, whose share is logged."""
        hidden_NSD, step_end_NC = inputs.outputs.hidden_NSD, inputs.extras["step_end_NC"]
        assert hidden_NSD is not None
        is_short_N = (step_end_NC >= 0).sum(dim=1) < MIN_STEPS
        return ObjectiveLoss(step_loss(hidden_NSD, step_end_NC), {"jepa_without_steps": is_short_N.sum()})
