"""`PredictorTrainer`: an `SFTTrainer` whose model has predictor tokens while it trains.

Their vectors lie beside checkpoints, and never in a model that is saved.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel
from trl import SFTTrainer

from llm_jepa.objectives.predictor import (
    PredictorTokens,
    gathered_vectors,
    load_vectors,
    predictor_registered,
    predictor_unregistered,
    save_vectors,
    without_predictor,
)


class PredictorTrainer(SFTTrainer):
    """Trains, saves and resumes `predictor`; with None it is an `SFTTrainer`.

    It comes before other subclasses in the list of bases, which do not hand on whether a save is internal.
    """

    model: PreTrainedModel | PeftModel  # transformers allows None, before there is a model
    predictor: PredictorTokens | None

    @property
    def base_causal_lm(self) -> PreTrainedModel:
        """The causal LM, without its adapter if there is one."""
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def train(self, *args: Any, **kwargs: Any):
        """Train as `SFTTrainer` does, with the predictor tokens among the trained parameters."""
        with predictor_registered(self.base_causal_lm, self.predictor):
            return super().train(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model without predictor tokens. An internal call saves a checkpoint: their vectors go beside it."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and self.predictor is not None:
            vectors_KD = gathered_vectors(self.predictor)
            if self.args.should_save:
                Path(output_dir or str(self.args.output_dir)).mkdir(parents=True, exist_ok=True)
                save_vectors(vectors_KD, output_dir or str(self.args.output_dir))

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
            load_vectors(self.predictor, resume_from_checkpoint)
