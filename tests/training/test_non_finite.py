"""A loss or a gradient that is not finite ends the run before the weights change."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from llm_jepa import NonFiniteLossError
from tests.trainers import (
    TOKENISED,
    jepa_trainer,
)

pytestmark = pytest.mark.usefixtures("deterministic")


class _Poison(TrainerCallback):
    """Makes a weight NaN before the third step, after the checkpoint of the second."""

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 2:
            model.get_input_embeddings().weight.data[5] = float("nan")


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_nan_loss_stops_the_run_keeps_the_checkpoint_and_names_the_batch(weight, tmp_path):
    rows = [{**row, "input_ids": [*row["input_ids"][:3], 5, *row["input_ids"][3:]]} for row in TOKENISED]
    rows = [{**row, "labels": [-100, *row["labels"]]} for row in rows]
    trainer = jepa_trainer(
        tmp_path, rows, jepa_weight=weight, save_strategy="steps", save_steps=2, callbacks=[_Poison()], max_steps=4
    )
    with pytest.raises(NonFiniteLossError, match=r"nan .*step 3.*rows \[\d, \d, \d, \d\]"):
        trainer.train()
    kept = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in kept.values())


class _InfiniteDetachedGradient(TrainerCallback):
    """The same of a network that the model does not learn from, whose gradients are clipped apart."""

    def on_substep_end(self, args, state, control, **kwargs):
        if state.global_step == 2:
            self.parameter.grad[0] = float("inf")


def test_an_infinite_gradient_of_a_detached_network_stops_the_run_too(tmp_path):
    poison = _InfiniteDetachedGradient()
    trainer = jepa_trainer(
        tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2, callbacks=[poison],
        jepa_objective="next_latent", detach_backbone=True,
    )  # fmt: skip
    poison.parameter = trainer.detached_parameters[0]
    with pytest.raises(NonFiniteLossError, match=r"gradient.* step 3"):
        trainer.train()
    assert all(torch.isfinite(parameter).all() for parameter in trainer.detached_parameters)


class _InfiniteGradient(TrainerCallback):
    """Makes a gradient infinite in the third step, with a finite loss."""

    def on_substep_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 2:
            model.get_input_embeddings().weight.grad[5] = float("inf")


def test_an_infinite_gradient_stops_the_run_before_the_weights_change(tmp_path):
    trainer = jepa_trainer(
        tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2, callbacks=[_InfiniteGradient()]
    )
    with pytest.raises(NonFiniteLossError, match=r"gradient.* step 3.* rows \[(\d, ){3}\d\]"):
        trainer.train()
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())
