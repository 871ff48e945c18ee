"""`AveragingTrainer`: a `PredictorTrainer` that embeds targets by averages of the weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from llm_jepa.layouts import LaidOut
from llm_jepa.objectives.base import Objective
from llm_jepa.training.averaged_weights import AveragedWeights
from llm_jepa.training.predictor_trainer import PredictorTrainer

AVERAGES_FILE = "averaged_weights"


class AveragingTrainer(PredictorTrainer):
    """Averages the weights after each step for an objective that `averages_target`, and saves them in checkpoints.

    The averages are never part of a model that is saved. Without a training yet they are the weights themselves.
    """

    objective: Objective | None
    averaged_weights: AveragedWeights | None = None

    def with_targets(self, model: Any, laid_out: LaidOut) -> LaidOut:
        """A micro-batch with the embeddings of its targets by the averages, computed in a forward of the whole model.

        Launchers gather weights in such a forward. Without averages nothing is computed.
        """
        if self.averaged_weights is None:
            return laid_out
        with self.averaged_weights.swapped_in(), torch.no_grad():
            return replace(laid_out, target_ND=model(laid_out=laid_out, targets_only=True))

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None):
        prepared = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        self.remove_callback(AverageAfterStep)  # that of an earlier training
        self.averaged_weights = None
        if self.objective is not None and self.objective.averages_target:
            self.averaged_weights = AveragedWeights(self.model, self.base_causal_lm.base_model)
            if resume_from_checkpoint is not None:
                self.averaged_weights.load(self._averages_path(resume_from_checkpoint))
            assert self.args.ema_decay is not None, "JEPAConfig resolves it"
            self.add_callback(AverageAfterStep(self.averaged_weights, self.args.ema_decay, self.args.ema_warmup_steps))
        return prepared

    def _save_rng_state(self, output_dir: str) -> None:
        """Write the averages, before the random state, which is the last part of a checkpoint."""
        averages = self.averaged_weights
        if averages is not None and (averages.is_sharded or self.args.should_save):
            averages.save(self._averages_path(output_dir))
        super()._save_rng_state(output_dir)

    def _load_best_model(self) -> None:
        """Load the best checkpoint's model with its averages."""
        super()._load_best_model()
        checkpoint = self.state.best_model_checkpoint
        assert checkpoint is not None, "transformers loads the best checkpoint if there is one"
        if self.averaged_weights is not None and not self.args.save_only_model:
            self.averaged_weights.load(self._averages_path(checkpoint))

    def _averages_path(self, checkpoint: str) -> Path:
        """The file of all processes, or that of this process's shards."""
        assert self.averaged_weights is not None
        shard = f"_{self.args.process_index}" if self.averaged_weights.is_sharded else ""
        return Path(checkpoint) / f"{AVERAGES_FILE}{shard}.safetensors"


class AverageAfterStep(TrainerCallback):
    """Updates the averages after each optimizer step."""

    def __init__(self, averaged_weights: AveragedWeights, decay: float, warmup_steps: int):
        self.averaged_weights = averaged_weights
        self.decay = decay
        self.warmup_steps = warmup_steps

    def on_step_end(self, args, state, control, **kwargs):
        self.averaged_weights.update(warmed_up_decay(self.decay, self.warmup_steps, state.global_step - 1))


def warmed_up_decay(decay: float, warmup_steps: int, step: int) -> float:
    """decay * min(1, step / warmup_steps), steps counted from 0."""
    return decay * min(1.0, step / warmup_steps) if warmup_steps else decay
