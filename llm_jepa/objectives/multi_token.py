"""`multi_token`: further heads predict the tokens after the next (multi-token prediction, arXiv 2404.19737).

    loss = mean over k = 0 .. of cross-entropy(W head_k(h_t), x_(t+2+k))

The control of every latent objective: it looks ahead as they do, at tokens in place of hidden states. A head reads one
hidden state, after the final norm, and attends to no other: what it says of later tokens, the model has put there.
All share the LM head W. No pairs needed.
Legend: N rows, S tokens of a row, D the model's width.
"""

from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_jepa.compute.flops import ModelSize, StepCounts
from llm_jepa.objectives.base import LossInputs, Objective, ObjectiveLoss, refuse_beyond_rows
from llm_jepa.objectives.conversations import Conversations
from llm_jepa.objectives.latent_dynamics import as_weights
from llm_jepa.objectives.lm_head import whole_lm_head
from llm_jepa.objectives.losses import multi_token_rows
from llm_jepa.objectives.own_parameters import drawn_by
from llm_jepa.settings.objectives import RowNeeds


class FutureTokenHeads(nn.Module):
    """For each further token `head(h) = h + B SiLU(A h)`. B is zero at the start: a head begins as the identity.

    Args:
        width: The model's, D.
        num_heads: How many.
    """

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.heads = nn.ModuleList(self._new_head(width) for _ in range(num_heads))

    @staticmethod
    def _new_head(width: int) -> nn.Module:
        last = nn.Linear(width, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(nn.Linear(width, width), nn.SiLU(), last)

    def forward(self, hidden_NSD: Tensor) -> list[Tensor]:
        """hidden_NSD of each head."""
        hidden_NSD = as_weights(hidden_NSD, next(self.heads.parameters()))
        return [hidden_NSD + head(hidden_NSD) for head in self.heads]


class MultiTokenObjective(Objective):
    """Predicts `num_future_tokens` tokens after the next."""

    row_needs: ClassVar[RowNeeds] = "conversation"
    computes_within_forward = True

    def check(self, device_type: str, train_dataset: Any, eval_dataset: Any) -> None:
        """Refuse more tokens ahead than the longest row has."""
        refuse_beyond_rows("num_future_tokens", self.args.num_future_tokens, 1, train_dataset)

    def new_predictor(self, model: PreTrainedModel) -> nn.Module:
        """The heads, drawn by the seed."""
        width = model.config.get_text_config().hidden_size
        return drawn_by(self.args.seed, model, lambda: FutureTokenHeads(width, self.args.num_future_tokens))

    def forward_terms(
        self, model: PreTrainedModel, predictor: nn.Module | None, conversations: Conversations
    ) -> dict[str, Tensor]:
        """The loss of each row."""
        assert predictor is not None
        head_hidden = predictor(conversations.hidden_NSD)
        labels = conversations.label_row_M, conversations.label_position_M, conversations.label_ids_M
        with whole_lm_head(model) as head:
            return {"loss_N": multi_token_rows(head_hidden, *labels, head)}

    def loss(self, inputs: LossInputs) -> ObjectiveLoss:
        """That of the forward."""
        assert inputs.outputs.terms is not None
        return ObjectiveLoss(inputs.outputs.terms["loss_N"])

    def extra_flops(self, counts: StepCounts, size: ModelSize) -> float:
        """6 per parameter of a head, 2 D^2, and token; the LM head again for each, forward and backward."""
        heads, per_label = self.args.num_future_tokens, 4 * size.head_parameters + 2 * size.trained_head_parameters
        return heads * (6 * 2 * size.width**2 * counts.conversation_tokens + per_label * counts.labelled_tokens)
