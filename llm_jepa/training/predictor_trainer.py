"""`PredictorTrainer`: an `SFTTrainer` whose model has the parameters of an objective while it trains.

They lie beside checkpoints, and never in a model that is saved.
"""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from trl import SFTTrainer

from llm_jepa.config import JEPAConfig
from llm_jepa.objectives.own_parameters import (
    PREDICTOR_FILE,
    PREDICTOR_MODULE,
    gathered_state,
    load_state,
    predictor_registered,
    predictor_unregistered,
    save_state,
    without_predictor,
)


class PredictorTrainer(SFTTrainer):
    """Trains, saves and resumes `predictor`; with None it is an `SFTTrainer`.

    It comes before other subclasses in the list of bases, which do not hand on whether a save is internal.
    """

    args: JEPAConfig
    model: PreTrainedModel | PeftModel  # transformers allows None, before there is a model
    predictor: nn.Module | None

    @property
    def detached_parameters(self) -> list[nn.Parameter]:
        """Those whose loss sends no gradient into the model: they are clipped by their own norm, the others by theirs.

        Asked for anew in each step, since FSDP2 puts shards in their place.
        """
        return []

    @property
    def base_causal_lm(self) -> PreTrainedModel:
        """The causal LM, without its adapter if there is one."""
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def train(self, *args: Any, **kwargs: Any):
        """Train as `SFTTrainer` does, with the predictor among the trained parameters."""
        with predictor_registered(self.base_causal_lm, self.predictor):
            return super().train(*args, **kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create TRL's optimizer, in which the predictor has the learning rate of its own if one is given."""
        is_new, rate = self.optimizer is None, self.args.predictor_learning_rate
        optimizer = super().create_optimizer(model)
        if is_new and rate is not None and self.predictor is not None:
            names = (self.model if model is None else model).named_parameters()
            own = {id(parameter) for name, parameter in names if PREDICTOR_MODULE in name.split(".")}
            split_groups(optimizer, own, rate)
        return optimizer

    def _clip_grad_norm(self, model: nn.Module):
        detached = self.detached_parameters
        clips_itself = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        if clips_itself or not detached:
            return super()._clip_grad_norm(model)
        own_norm = nn.utils.clip_grad_norm_(detached, self.args.max_grad_norm)
        own_norm = own_norm.full_tensor() if isinstance(own_norm, DTensor) else own_norm
        gradients = [parameter.grad for parameter in detached]
        for parameter in detached:
            parameter.grad = None
        has_others = any(parameter.grad is not None for parameter in model.parameters())
        grad_norm = super()._clip_grad_norm(model)
        for parameter, gradient in zip(detached, gradients, strict=True):
            parameter.grad = gradient
        return grad_norm if has_others and math.isfinite(own_norm) else own_norm  # of what is not finite, that one

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model without its predictor. An internal call saves a checkpoint: the predictor goes beside it."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and self.predictor is not None:
            state = gathered_state(self.predictor)
            if self.args.should_save:
                Path(output_dir or str(self.args.output_dir)).mkdir(parents=True, exist_ok=True)
                save_state(state, output_dir or str(self.args.output_dir))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if state_dict is not None:
            state_dict = without_predictor(state_dict)
        with predictor_unregistered(self.base_causal_lm):
            super()._save(output_dir, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        # FSDP reads all weights that train, as it wrote them; other checkpoints hold the model alone.
        with nullcontext() if self.is_fsdp_enabled else predictor_unregistered(self.base_causal_lm):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.predictor is not None:
            load_state(self.predictor, resume_from_checkpoint)
        elif Path(resume_from_checkpoint, PREDICTOR_FILE).is_file():
            raise ValueError(
                f"The checkpoint {resume_from_checkpoint} has {PREDICTOR_FILE}, the parameters of another objective. "
                "Resume with the checkpoint's `jepa_objective`, or start in another `output_dir`."
            )

    def _load_best_model(self) -> None:
        """Load the best checkpoint's model and predictor; an engine of DeepSpeed or FSDP reads both at once."""
        reads_both = self.is_fsdp_enabled or self.is_deepspeed_enabled
        with nullcontext() if reads_both else predictor_unregistered(self.base_causal_lm):
            super()._load_best_model()
        if self.predictor is not None and not reads_both:
            checkpoint = self.state.best_model_checkpoint
            assert checkpoint is not None, "transformers loads the best checkpoint if there is one"
            load_state(self.predictor, checkpoint)


def split_groups(optimizer: torch.optim.Optimizer, own: set[int], learning_rate: float) -> None:
    """Move the parameters with these ids into groups of another learning rate, their other settings kept."""
    for group in list(optimizer.param_groups):
        moved = [parameter for parameter in group["params"] if id(parameter) in own]
        if not moved:
            continue
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in own]
        optimizer.add_param_group({**group, "params": moved, "lr": learning_rate})
