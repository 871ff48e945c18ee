"""`PictureQuestionTrainer`: transformers' `Trainer` on rows of pictures, questions and answers."""

import logging
import math
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import TrainerCallback

from llm_jepa.hub.publishing_trainer import PublishingTrainer
from llm_jepa.hub.vision_section import VISION_SETTINGS
from llm_jepa.models.local_files import ArtifactKind
from llm_jepa.objectives.base import ObjectiveLoss, cut_rows
from llm_jepa.training.predictor_trainer import split_groups
from llm_jepa.training.refusals import (
    refuse_fewer_rows_than_a_batch,
    refuse_fewer_rows_than_processes,
    refuse_parallelism,
    refuse_several_devices,
)
from llm_jepa.training.resumable import ResumableTrainer
from llm_jepa.training.step_metrics import StepMetrics, num_new_rows
from llm_jepa.vision.augmentation import CropAndColour, EpochOfAugmentation
from llm_jepa.vision.base_model import PictureQuestionModel
from llm_jepa.vision.collator import VisionCollator
from llm_jepa.vision.config import VisionConfig
from llm_jepa.vision.feature_cache import FeatureCache, with_cached_features
from llm_jepa.vision.rows import prepare_rows, refuse_one_answer

COLLAPSE_REMEDY = (
    "Lower `learning_rate` or `text_encoder_learning_rate_factor`, or try `jepa_loss: info_nce_symmetric` or "
    "`jepa_regulariser: sigreg`."
)
NO_NEGATIVES = (
    "No row since the last log had a negative: each micro-batch had one answer alone, and InfoNCE taught nothing. Mix "
    "the answers of the data, or raise `per_device_train_batch_size`."
)
ROW_KEYS = ("row_index", "answer_key")
"""What a batch has beside the arguments of the model."""
SHARED_OUTPUTS = ("temperature",)
"""What a model gives out once and not for each row."""

logger = logging.getLogger(__name__)


class PictureQuestionTrainer(PublishingTrainer, ResumableTrainer, ABC):
    """Trains a `PictureQuestionModel` to answer. A subclass has the loss.

    The loss is the mean over what `num_terms` counts of an optimizer step, all processes and micro-batches together.

    Args:
        model: With its processor.
        args: The options.
        train_dataset, eval_dataset: Rows with the columns that the options name.
        picture_directory: What relative paths of pictures are relative to; the working directory if None.
        callbacks: Beside the trainer's own.

    Raises:
        ValueError: Rows are wrong (`prepare_rows`), answers are all equal, or the feature cache is of another encoder.
    """

    args: VisionConfig
    model: Any
    loss_is_scaled_for_ga = True  # it is normalised by the step's terms
    card_settings = VISION_SETTINGS

    def __init__(
        self,
        model: PictureQuestionModel,
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
        self.refuse_rows(model, args, train_rows, eval_rows)
        cache = None
        if args.feature_cache is not None:
            with args.main_process_first(desc="opening of the feature cache"):
                cache = FeatureCache(args.feature_cache, model.vision_encoder, processor)
            train_rows = self._with_features(train_rows, cache, model, args, picture_directory)
            if eval_rows is not None:
                eval_rows = self._with_features(eval_rows, cache, model, args, picture_directory)
        collator = VisionCollator(processor, args, cache, picture_directory)
        super().__init__(
            model,
            args,
            collator,
            train_rows,
            eval_rows,
            compute_metrics=self.evaluation_metrics,
            callbacks=callbacks,
        )
        refuse_parallelism(self.accelerator)
        refuse_fewer_rows_than_processes(self.accelerator.num_processes, train_rows)
        refuse_fewer_rows_than_a_batch(args, self.accelerator.num_processes, train_rows)
        self.train_collator = collator
        if args.augmentation == "crop_and_colour":
            augmentation = CropAndColour(args.seed)
            self.train_collator = replace(collator, augmentation=augmentation)
            self.add_callback(EpochOfAugmentation(augmentation))
        self.step_metrics = StepMetrics(COLLAPSE_REMEDY)
        self._step_terms: int | Tensor = 0
        self._has_warned_of_negatives = False

    @staticmethod
    def _with_features(
        rows: Dataset, cache: FeatureCache, model: PictureQuestionModel, args: VisionConfig, directory: Path | None
    ) -> Dataset:
        """Rows with keys of cached features; each process encodes its share of what is missing."""
        encoder: Any = model.vision_encoder
        share = args.process_index, args.world_size
        rows = with_cached_features(rows, cache, encoder.to(args.device), model.processor, directory, share)
        if args.world_size > 1:
            torch.distributed.barrier()
        return rows

    def get_train_dataloader(self):
        """That of `Trainer`, with pictures augmented; evaluation sees them as they are."""
        plain, self.data_collator = self.data_collator, self.train_collator
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = plain

    def artifact_kind(self) -> ArtifactKind:
        """A model of pictures and questions."""
        return "vision"

    # --- what a subclass has

    evaluation_metrics: Any = None
    """What `Trainer` calls with the predictions of an evaluation."""

    def refuse_rows(
        self, model: PictureQuestionModel, args: VisionConfig, train_rows: Dataset, eval_rows: Dataset | None
    ) -> None:
        """Refuse rows from which nothing can be learnt."""

    @abstractmethod
    def num_terms(self, batch: dict[str, Tensor]) -> int:
        """How many terms the loss of a micro-batch has."""

    @abstractmethod
    def batch_loss(self, outputs: Any, batch: dict[str, Tensor]) -> ObjectiveLoss:
        """The loss of a micro-batch and what is logged of it, each as a sum over its terms."""

    # --- loss

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Collect the micro-batches of a step and count the terms of all processes."""
        batches, num_items_in_batch = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step_metrics.begin_step()
        self._step_terms = sum(self.num_terms(batch) for batch in batches)
        if self.accelerator.num_processes > 1:
            self._step_terms = self.accelerator.gather(torch.tensor(self._step_terms, device=device)).sum()
        return batches, num_items_in_batch

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The loss of a micro-batch: its share of the step's mean or, in evaluation, the mean of its new rows."""
        outputs = model(**{name: value for name, value in inputs.items() if name not in ROW_KEYS})
        is_training, all_rows = self.model.training, len(inputs["row_index"])
        num_rows = all_rows if is_training else num_new_rows(self.accelerator, all_rows)
        counted, counted_outputs = inputs, outputs
        if num_rows < all_rows:  # one row if none is new, since other processes may ask for it
            of_rows = {name: value for name, value in outputs.items() if name not in SHARED_OUTPUTS}
            counted = cut_rows(inputs, max(1, num_rows))
            counted_outputs = replace(outputs, **cut_rows(of_rows, max(1, num_rows)))
        result, num_terms = self.batch_loss(counted_outputs, counted), self.num_terms(counted)
        # Data parallelism averages the gradients of the processes, whose terms `_step_terms` counts together.
        share = self.accelerator.num_processes / self._step_terms if is_training else 1 / num_terms
        parts = {name: total * share for name, total in result.sums.items()}
        self.step_metrics.add(self.mode, parts, num_terms if num_rows > 0 else 0)
        if result.pairs is not None:
            self.step_metrics.add_pairs(self.mode, *result.pairs)
        loss = result.loss_N.sum() * share
        return (loss, outputs) if return_outputs else loss

    # --- optimizer

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

    # --- logs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as `MeasuredTrainer` does, and warn once of logs in which no row had a negative."""
        super().log(logs, start_time)
        if math.isclose(logs.get("jepa_without_negatives", 0.0), 1.0, rel_tol=1e-6):
            if not self._has_warned_of_negatives and self.is_world_process_zero():
                logger.warning(NO_NEGATIVES)
            self._has_warned_of_negatives = True
