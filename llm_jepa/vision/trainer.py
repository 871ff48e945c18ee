"""`VLJEPATrainer`: trains a model to predict the embeddings of answers."""

from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import EvalPrediction

from llm_jepa.inference.ranking import is_constant, unit_rows
from llm_jepa.objectives.base import ObjectiveLoss, refuse_draws_on_mps
from llm_jepa.objectives.pair import refuse_batches_of_one_row
from llm_jepa.objectives.pair_term import pair_term
from llm_jepa.settings.objectives import row_comparing_option
from llm_jepa.training.evaluation_mode import in_evaluation
from llm_jepa.vision.base_trainer import PictureQuestionTrainer
from llm_jepa.vision.config import VisionConfig
from llm_jepa.vision.model import VLJEPAModel, VLJEPAOutput
from llm_jepa.vision.retrieval import answer_ranks, retrieval_scores
from llm_jepa.vision.text_encoder import encode_texts

PROBED_ANSWERS = 64
"""As many different answers are looked at for whether the text encoder tells them apart."""


def retrieval_metrics(evaluated: EvalPrediction) -> dict[str, float]:
    """How well predictions find their answers among all different ones."""
    embeddings: Any = evaluated.predictions
    keys: Any = evaluated.label_ids
    prediction_NE, target_NE = embeddings
    return retrieval_scores(answer_ranks(prediction_NE, target_NE, keys))


class VLJEPATrainer(PictureQuestionTrainer):
    """Trains a `VLJEPAModel`.

    A term of the loss is a row. The negatives of InfoNCE are those of a micro-batch of all processes. Evaluation logs
    the strict ranks of the answers among all different answers: `eval_recall_at_1` is what `metric_for_best_model`
    should name, not the loss.

    Raises:
        ValueError: As by `PictureQuestionTrainer`; or the text encoder does not tell answers apart, or a micro-batch
            has one row.
    """

    model: VLJEPAModel
    evaluation_metrics = staticmethod(retrieval_metrics)

    def refuse_rows(self, model: Any, args: VisionConfig, train_rows: Dataset, eval_rows: Dataset | None) -> None:
        """Refuse a text encoder that tells nothing apart, micro-batches without negatives, draws without float64."""
        if args.jepa_regulariser == "sigreg":
            refuse_draws_on_mps("jepa_regulariser: sigreg", args.device.type)
        refuse_constant_targets(model, train_rows)
        if row_comparing_option(args) is not None:
            refuse_batches_of_one_row(args, train_rows, eval_rows)

    def num_terms(self, batch: dict[str, Tensor]) -> int:
        """Rows."""
        return len(batch["row_index"])

    def batch_loss(self, outputs: VLJEPAOutput, batch: dict[str, Tensor]) -> ObjectiveLoss:
        """The loss of each row (`pair_term`)."""
        args = self.args
        assert outputs.prediction_NE is not None
        assert outputs.target_NE is not None
        assert outputs.temperature is not None
        result = pair_term(
            outputs.prediction_NE,
            outputs.target_NE,
            batch["answer_key"],
            outputs.temperature if args.trains_temperature else args.info_nce_temperature,
            args,
            self.place(),
        )
        if args.trains_temperature:
            result.sums["temperature"] = outputs.temperature.detach()[0] * self.num_terms(batch)
        return result

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Those that weight decay pulls to 0, without the temperature."""
        names = super().get_decay_parameter_names(model)
        return [name for name in names if not name.endswith("log_temperature")]

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The loss, both embeddings and the key of each answer."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        embeddings = outputs.prediction_NE.float(), outputs.target_NE.float()
        return loss.detach(), embeddings, inputs["answer_key"]


def refuse_constant_targets(model: VLJEPAModel, rows: Dataset) -> None:
    """Refuse a text encoder to which all answers are the same.

    Raises:
        ValueError: Its embeddings of different answers are equal.
    """
    answers = list(dict.fromkeys(rows["answer"]))[:PROBED_ANSWERS]
    ids_NS, is_token_NS = model.processor.answers(answers, model.config.max_answer_tokens)
    with in_evaluation(model), torch.no_grad():
        text_ND = encode_texts(
            model.text_encoder, ids_NS.to(model.device), is_token_NS.to(model.device), model.config.text_pooling
        )
    if is_constant(unit_rows(text_ND.float().cpu().numpy())):
        raise ValueError(
            f"The text encoder gives {len(answers)} different answers the same embedding: it tells nothing apart. "
            "Name another `text_encoder`, or another `text_pooling`."
        )
