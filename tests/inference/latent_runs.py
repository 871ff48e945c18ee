"""Runs of two steps with a latent predictor, and trainers whose forward their embeddings are held to."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.inference.encoder import LatentEncoder
from llm_jepa.models.latent_predictor import PredictorFacts, facts_of
from llm_jepa.settings.objectives import VIEW_OPTIONS
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer


def new_trainer(
    output_dir: Path, chat_template: Any = None, rows: list[dict[str, str]] | None = None, **options: Any
) -> JEPATrainer:
    """A trainer of a tiny model on rows or the pairs; `chat_template` is that of a tokenizer without one if False."""
    settings = {
        "output_dir": str(output_dir), "source_column": "source", "target_column": "target", "bf16": False,
        "use_cpu": True, "report_to": "none", "disable_tqdm": True, "max_steps": 2, "save_strategy": "no",
        "num_predictor_tokens": 2,
    }  # fmt: skip
    tokenizer = tiny_tokenizer(None) if chat_template is False else tiny_tokenizer()
    return JEPATrainer(
        tiny_llama(),
        JEPAConfig(**settings | options),
        train_dataset=Dataset.from_list(PAIRS if rows is None else rows),
        processing_class=tokenizer,
    )


@torch.no_grad()
def embeddings_of_training(trainer: JEPATrainer) -> tuple[Tensor, Tensor]:
    """Prediction and target of every pair, by the forward that the trainer computes: embedding_ND each."""
    batch = trainer.data_collator(list(trainer.train_dataset))
    output = trainer.model.eval()(laid_out=batch["laid_out"], fused_lm_head=True)
    return output.prediction_ND, output.target_ND


def facts_of_trainer(trainer: JEPATrainer) -> PredictorFacts:
    options = {name: getattr(trainer.args, name) for name in VIEW_OPTIONS}
    parts = trainer.base_causal_lm, trainer.processing_class, ("pair",), options
    return facts_of(*parts, trainer.has_plain_prompts)


def encoder_of(trainer: JEPATrainer) -> LatentEncoder:
    """The encoder of a trainer's model as it is now."""
    weights = {} if trainer.predictor is None else {"vectors_KD": trainer.predictor.vectors_KD.detach()}
    return LatentEncoder(trainer.model, trainer.processing_class, facts_of_trainer(trainer), weights)
