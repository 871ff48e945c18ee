"""Training on the tests' device, a GPU where there is one, against training on the CPU."""

import pytest
from peft import LoraConfig

from tests.devices import DEVICE
from tests.trainers import jepa_trainer, step_losses

pytestmark = pytest.mark.usefixtures("deterministic")
PREFIX_SG = {"jepa_source_view": "prefix", "jepa_target": "stop_gradient"}
RECIPES = {
    "alone": {"num_predictor_tokens": 2},
    "prefix_sg": PREFIX_SG,
    "rows": {"jepa_layout": "rows"},
    "info_nce": {"jepa_loss": "info_nce"},
    "tube": {"jepa_objective": "tube"},
    "patch": {"jepa_objective": "patch"},
    "dropout": {"jepa_dropout": 0.5, "jepa_dropout_rescale": True},
    "accumulation": PREFIX_SG | {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 3},
    "checkpointing": {"gradient_checkpointing": True},
    "lora": {"peft_config": LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_logs_the_losses_of_the_same_run_on_the_cpu(recipe, tmp_path):
    """In float32: both parts of the loss and the gradient's norm in each of three steps."""
    options = {"learning_rate": 1e-3} | RECIPES[recipe]
    on_cpu = jepa_trainer(tmp_path, **options, use_cpu=True)
    on_cpu.train()
    here = jepa_trainer(tmp_path, **options)  # from here on accelerate's shared state is this device's
    here.train()
    assert here.model.device.type == DEVICE.type
    for name in ("lm_loss", "jepa_loss", "grad_norm"):
        assert step_losses(here, name) == pytest.approx(step_losses(on_cpu, name), rel=1e-3), name


@pytest.mark.parametrize("recipe", ["alone", "prefix_sg", "tube", "lora"])
def test_both_losses_fall_in_bf16(recipe, tmp_path):
    trainer = jepa_trainer(tmp_path, **RECIPES[recipe], bf16=True, max_steps=20, lr_scheduler_type="constant")
    trainer.train()
    for name in ("lm_loss", "jepa_loss"):
        losses = step_losses(trainer, name)
        assert sum(losses[-4:]) < 0.9 * sum(losses[:4]), name
