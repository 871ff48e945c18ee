"""`TokenVLMTrainer`: trains a model to write answers token by token."""

from typing import Any

import torch
from torch import Tensor

from llm_jepa.objectives.base import ObjectiveLoss
from llm_jepa.vision.base_trainer import PictureQuestionTrainer
from llm_jepa.vision.token_loss import answer_loss
from llm_jepa.vision.token_model import TokenVLM, TokenVLMOutput


class TokenVLMTrainer(PictureQuestionTrainer):
    """Trains a `TokenVLM` by next-token loss on the answers alone, the end of text included.

    A term of the loss is a token of an answer. Beside it the share of tokens is logged that have the highest logit.
    """

    model: TokenVLM

    def num_terms(self, batch: dict[str, Tensor]) -> int:
        """Tokens of answers."""
        return int(batch["answer_mask"].sum())

    def batch_loss(self, outputs: TokenVLMOutput, batch: dict[str, Tensor]) -> ObjectiveLoss:
        """The loss of each row (`answer_loss`)."""
        assert outputs.logits_NAV is not None
        loss_N, num_right = answer_loss(outputs.logits_NAV, batch["answer_ids"], batch["answer_mask"])
        return ObjectiveLoss(loss_N, {"answer_token_accuracy": num_right})

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None) -> Any:
        """The loss alone: logits of a whole vocabulary would fill the memory."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs)
        return loss.detach(), None, None
