"""`VLJEPATrainer`: transformers' `Trainer` on the loss of VL-JEPA."""

import logging
import math
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import EvalPrediction, TrainerCallback

from llm_jepa.inference.ranking import is_constant, unit_rows
from llm_jepa.objectives.pair import refuse_batches_of_one_row
from llm_jepa.settings.objectives import row_comparing_option
from llm_jepa.training.predictor_trainer import split_groups
from llm_jepa.training.refusals import (
    refuse_fewer_rows_than_a_batch,
    refuse_fewer_rows_than_processes,
    refuse_parallelism,
    refuse_several_devices,
)
from llm_jepa.training.resumable import ResumableTrainer
from llm_jepa.training.step_metrics import StepMetrics
from llm_jepa.vision.collator import VisionCollator
from llm_jepa.vision.config import VisionConfig
from llm_jepa.vision.feature_cache import FeatureCache, with_cached_features
from llm_jepa.vision.loss import Place, vl_jepa_loss
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.retrieval import answer_ranks, retrieval_scores
from llm_jepa.vision.rows import prepare_rows, refuse_one_answer
from llm_jepa.vision.text_encoder import encode_texts

COLLAPSE_REMEDY = (
    "Lower `learning_rate` or `text_encoder_learning_rate_factor`, or try `jepa_loss: info_nce_symmetric` or "
    "`jepa_regulariser: sigreg`."
)
PROBED_ANSWERS = 64
"""As many different answers are looked at for whether the text encoder tells them apart."""

logger = logging.getLogger(__name__)


class VLJEPATrainer(ResumableTrainer):
    """Trains a `VLJEPAModel` to predict the embeddings of answers.

    The loss is the mean over the rows of an optimizer step, all processes and micro-batches together; the negatives of
    InfoNCE are those of a micro-batch of all processes. Evaluation logs the strict ranks of the answers among all
    different answers: `eval_recall_at_1` is what `metric_for_best_model` should name, not the loss.

    Args:
        model: With its processor.
        args: The options.
        train_dataset, eval_dataset: Rows with the columns that the options name.
        picture_directory: What relative paths of pictures are relative to; the working directory if None.
        callbacks: Beside the trainer's own.

    Raises:
        ValueError: Rows are wrong (`prepare_rows`), answers are all equal, the text encoder does not tell them apart,
            a micro-batch has one row, or the feature cache is of another encoder.
    """

    args: VisionConfig
    model: VLJEPAModel
    loss_is_scaled_for_ga = True  # it is normalised by the step's rows

    def __init__(
        self,
        model: VLJEPAModel,
        args: VisionConfig,
        train_dataset: Dataset,
        eval_dataset: Dataset | None = None,
        picture_directory: Path | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ):
        refuse_several_devices(args.n_gpu, None)
        processor = model.processor
        train_rows = prepare_rows(train_dataset, args, processor, "train", picture_directory)
        eval_rows = None
        if eval_dataset is not None:
            eval_rows = prepare_rows(eval_dataset, args, processor, "eval", picture_directory)
        refuse_one_answer(train_rows)
        refuse_constant_targets(model, train_rows)
        if row_comparing_option(args) is not None:
            refuse_batches_of_one_row(args, train_rows, eval_rows)
        cache = None
        if args.feature_cache is not None:
            with args.main_process_first(desc="opening of the feature cache"):
                cache = FeatureCache(args.feature_cache, model.vision_encoder, processor)
            train_rows = self._with_features(train_rows, cache, model, args, picture_directory)
            if eval_rows is not None:
                eval_rows = self._with_features(eval_rows, cache, model, args, picture_directory)
        super().__init__(
            model,
            args,
            VisionCollator(processor, args, cache, picture_directory),
            train_rows,
            eval_rows,
            compute_metrics=_retrieval_metrics,
            callbacks=callbacks,
        )
        refuse_parallelism(self.accelerator)
        refuse_fewer_rows_than_processes(self.accelerator.num_processes, train_rows)
        refuse_fewer_rows_than_a_batch(args, self.accelerator.num_processes, train_rows)
        self.step_metrics = StepMetrics(COLLAPSE_REMEDY)
        self._step_rows: int | Tensor = 0

    @staticmethod
    def _with_features(
        rows: Dataset, cache: FeatureCache, model: VLJEPAModel, args: VisionConfig, directory: Path | None
    ) -> Dataset:
        """Rows with keys of cached features; each process encodes its share of what is missing."""
        encoder: Any = model.vision_encoder
        share = args.process_index, args.world_size
        rows = with_cached_features(rows, cache, encoder.to(args.device), model.processor, directory, share)
        if args.world_size > 1:
            torch.distributed.barrier()
        return rows

    # --- loss

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Collect the micro-batches of a step and count the rows of all processes."""
        batches, num_items_in_batch = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step_metrics.begin_step()
        self._step_rows = sum(len(batch["row_index"]) for batch in batches)
        if self.accelerator.num_processes > 1:
            self._step_rows = self.accelerator.gather(torch.tensor(self._step_rows, device=device)).sum()
        return batches, num_items_in_batch

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The loss of a micro-batch: its share of the step's mean or, in evaluation, its own mean."""
        inputs = dict(inputs)
        row_index_N, answer_key_N = inputs.pop("row_index"), inputs.pop("answer_key")
        outputs = model(**inputs)
        args, is_training = self.args, self.model.training
        result = vl_jepa_loss(
            outputs.prediction_NE,
            outputs.target_NE,
            answer_key_N,
            outputs.temperature if args.trains_temperature else args.info_nce_temperature,
            args,
            Place(
                max_rows=args.train_batch_size if is_training else args.eval_batch_size,
                rank=self.accelerator.process_index,
                num_processes=self.accelerator.num_processes,
                seed=args.seed,
                step=self.state.global_step if is_training else 0,
            ),
        )
        assert result.pairs is not None
        # Data parallelism averages the gradients of the processes, whose rows `_step_rows` counts together.
        share = self.accelerator.num_processes / self._step_rows if is_training else 1 / len(row_index_N)
        parts = {name: total * share for name, total in result.sums.items()}
        if args.trains_temperature:
            parts["temperature"] = outputs.temperature.detach()[0] * share * len(row_index_N)
        mode = "train" if is_training else "eval"
        self.step_metrics.add(mode, parts, len(row_index_N))
        self.step_metrics.add_pairs(mode, *result.pairs)
        loss = result.loss_N.sum() * share
        return (loss, outputs) if return_outputs else loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None):
        """Return the gradient's norm, and stop before the optimizer uses one that is not finite."""
        grad_norm = super()._get_grad_norm(model, grad_norm)
        # The gradient scaler of fp16 expects infinite gradients and skips such steps.
        if not self.args.fp16 and grad_norm is not None and not math.isfinite(grad_norm):
            raise FloatingPointError(
                f"The gradient's norm is {float(grad_norm)} in step {self.state.global_step + 1}. Training has "
                f"stopped; the last checkpoint in {self.args.output_dir} is kept. Lower the learning rate."
            )
        return grad_norm

    # --- optimizer

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Those that weight decay pulls to 0, without the temperature."""
        names = super().get_decay_parameter_names(model)
        return [name for name in names if not name.endswith("log_temperature")]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create transformers' optimizer, in which each encoder has its own learning rate."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if is_new:
            factors = {
                "vision_encoder": self.args.vision_encoder_learning_rate_factor,
                "text_encoder": self.args.text_encoder_learning_rate_factor,
            }
            named = [*(self.model if model is None else model).named_parameters()]
            for part, factor in factors.items():
                own = {id(parameter) for name, parameter in named if part in name.split(".")}
                split_groups(optimizer, own, factor * self.args.learning_rate)
        return optimizer

    # --- evaluation and logs

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The loss, both embeddings and the key of each answer."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        embeddings = outputs.prediction_NE.float(), outputs.target_NE.float()
        return loss.detach(), embeddings, inputs["answer_key"]

    def evaluation_loop(self, *args: Any, **kwargs: Any):
        """Evaluate as `Trainer` does, without the values of a prediction, which is never logged."""
        self.step_metrics.begin_evaluation()
        return super().evaluation_loop(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the parts of the loss and the diagnostics too."""
        rate = "_samples_per_second"  # only logs of an evaluation have it, after their prefix
        prefix = next((key.removesuffix(rate) for key in logs if key.endswith(rate)), "eval")
        mode = "train" if self.model.training else "eval"
        metrics, warning = self.step_metrics.summary(mode, self.accelerator, prefix)
        if warning is not None:
            logger.warning(warning)
        logs.update(metrics)
        super().log(logs, start_time)


def refuse_constant_targets(model: VLJEPAModel, rows: Dataset) -> None:
    """Refuse a text encoder to which all answers are the same.

    Raises:
        ValueError: Its embeddings of different answers are equal.
    """
    answers = list(dict.fromkeys(answer.strip() for answer in rows["answer"]))[:PROBED_ANSWERS]
    ids_NS, is_token_NS = model.processor.answers(answers, model.config.max_answer_tokens)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        text_ND = encode_texts(
            model.text_encoder, ids_NS.to(model.device), is_token_NS.to(model.device), model.config.text_pooling
        )
    model.train(was_training)
    if is_constant(unit_rows(text_ND.float().cpu().numpy())):
        raise ValueError(
            f"The text encoder gives {len(answers)} different answers the same embedding: it tells nothing apart. "
            "Name another `text_encoder`, or another `text_pooling`."
        )


def _retrieval_metrics(evaluated: EvalPrediction) -> dict[str, float]:
    embeddings: Any = evaluated.predictions
    keys: Any = evaluated.label_ids
    prediction_NE, target_NE = embeddings
    return retrieval_scores(answer_ranks(prediction_NE, target_NE, keys))
