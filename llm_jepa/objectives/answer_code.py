"""`answer_code`: [PRED] tokens after the source predict codes from which the target can be written.

Semformer (arXiv 2409.11143).

    loss = mean over k and c of (linear(h_k) - sg code_k)^2
           + reconstruction_weight * cross-entropy of the target given its codes

h_k is the hidden state at the k-th [PRED] token. The codes are those of a small autoencoder of the target's tokens,
which is trained along. The prediction trains the model, the reconstruction the autoencoder. A target that must be
written from its codes cannot collapse. The target view needs no forward of the model.
Legend: N rows, K [PRED] tokens and codes of a row, C numbers of a code, T tokens of the longest target, D the model's
width, V tokens of the vocabulary, E the autoencoder's width.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from llm_jepa.compute.flops import ModelSize, StepCounts
from llm_jepa.config import JEPAConfig
from llm_jepa.layouts import Example, LaidOut, Layout
from llm_jepa.layouts.base import plain_sequence
from llm_jepa.layouts.masks import MaskForm
from llm_jepa.objectives.answer_autoencoder import CODE_WIDTH, WIDTH, AnswerAutoencoder
from llm_jepa.objectives.base import LossInputs, Objective, ObjectiveLoss
from llm_jepa.objectives.conversations import Conversations
from llm_jepa.objectives.latent_dynamics import as_weights
from llm_jepa.objectives.losses import code_regression_rows
from llm_jepa.objectives.own_parameters import drawn_by
from llm_jepa.objectives.predictor import PredictorTokens, new_predictor
from llm_jepa.objectives.view_sequences import choose_view_layout, predicting_sequence, view_names
from llm_jepa.settings.objectives import RowNeeds


class AnswerCodePredictor(nn.Module):
    """The [PRED] vectors, the linear layer to a code, and the autoencoder of targets."""

    def __init__(self, tokens: PredictorTokens, width: int, autoencoder: AnswerAutoencoder):
        super().__init__()
        self.tokens = tokens
        self.to_code = nn.Linear(width, CODE_WIDTH)
        self.autoencoder = autoencoder

    def forward(self, hidden_NKD: Tensor, token_NT: Tensor, is_token_NT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """predicted_NKC, code_NKC, and the loss of the reconstruction: loss_N."""
        predicted_NKC = self.to_code(as_weights(hidden_NKD, self.to_code.weight))
        return predicted_NKC, *self.autoencoder(token_NT, is_token_NT)


class AnswerCodeObjective(Objective):
    """Predicts codes of one view's tokens from the other view."""

    row_needs: ClassVar[RowNeeds] = "views"
    computes_within_forward = True

    def __init__(self, args: JEPAConfig):
        super().__init__(args)
        self.num_predictor_tokens = args.num_predictor_tokens

    def choose_layout(
        self, model: PreTrainedModel, pad_token_id: int, pad_to_multiple_of: int | None = None
    ) -> tuple[Layout, MaskForm, str]:
        """As `jepa_layout` says."""
        return choose_view_layout(self.args, model, pad_token_id, pad_to_multiple_of)

    def lay_out(self, rows: list[dict[str, Any]], layout: Layout) -> LaidOut:
        """The conversations with their predicting views, and the content tokens of the predicted ones."""
        predicting, predicted = view_names(self.args.jepa_direction)
        examples = [
            Example(
                plain_sequence(row["input_ids"]),
                row["labels"],
                (predicting_sequence(row, predicting, self.args, layout.pad_token_id),),
            )
            for row in rows
        ]
        targets = [torch.tensor(row[f"{predicted}_ids"][row[f"{predicted}_start"] :]) for row in rows]
        target_ids_NT = pad_sequence(targets, batch_first=True, padding_value=-1)
        return LaidOut(layout.lay_out(examples), target_ids_NT=target_ids_NT)

    def new_predictor(self, model: PreTrainedModel) -> nn.Module:
        """The module, drawn by the seed."""
        config, num_codes, seed = model.config.get_text_config(), self.num_predictor_tokens, self.args.seed

        def make() -> nn.Module:
            autoencoder = AnswerAutoencoder(config.vocab_size, num_codes, seed)
            return AnswerCodePredictor(new_predictor(model, num_codes, seed), config.hidden_size, autoencoder)

        return drawn_by(seed, model, make)

    def forward_terms(
        self, model: PreTrainedModel, predictor: nn.Module | None, conversations: Conversations
    ) -> dict[str, Tensor]:
        """The regression on the codes and the reconstruction, of each row."""
        hidden_NKD, target_ids_NT = conversations.predictor_hidden_NKD, conversations.target_ids_NT
        assert predictor is not None
        assert hidden_NKD is not None
        assert target_ids_NT is not None
        predicted_NKC, code_NKC, reconstruction_N = predictor(
            hidden_NKD, target_ids_NT.clamp(min=0), target_ids_NT >= 0
        )
        return {"code_N": code_regression_rows(predicted_NKC, code_NKC), "reconstruction_N": reconstruction_N}

    def loss(self, inputs: LossInputs) -> ObjectiveLoss:
        """The weighted sum of both terms; logs each."""
        terms = inputs.outputs.terms
        assert terms is not None
        code_N, reconstruction_N = terms["code_N"], terms["reconstruction_N"]
        sums = {"jepa_code": code_N.detach().sum(), "jepa_reconstruction": reconstruction_N.detach().sum()}
        return ObjectiveLoss(code_N + self.args.reconstruction_weight * reconstruction_N, sums)

    def extra_flops(self, counts: StepCounts, size: ModelSize) -> float:
        """6 per position and parameter: 12 E^2 of each of two layers per token of a target and code, and V E of the
        table per token.

        The linear layers to and from a code count nothing beside them.
        """
        vocabulary_tokens = size.head_parameters // size.width
        positions = counts.uncomputed_target_tokens + counts.uncomputed_targets * self.num_predictor_tokens
        return 6 * (2 * 12 * WIDTH**2 * positions + vocabulary_tokens * WIDTH * counts.uncomputed_target_tokens)
