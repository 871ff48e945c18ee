"""A dry step costs what the same step of real training does: FLOPs by the profiler, bytes by its memory events."""

import gc
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from llm_jepa.inspection.prepared_recipe import prepare_recipe
from llm_jepa.layouts.masks import MaskForm
from llm_jepa.planning.dry_step import DryModel
from llm_jepa.planning.memory import average_bytes
from llm_jepa.recipe import Recipe, build_recipe
from llm_jepa.train import build_trainer

PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::addmm_"}
LORA = {"use_peft": True, "lora_target_modules": "all-linear", "dtype": "bfloat16"}
PRICE_OF_SFT = {"jepa_source_view": "prefix", "jepa_target": "stop_gradient"}


def dry(recipe: Recipe) -> tuple[float, dict[str, float]]:
    """FLOPs and peak bytes of a micro-batch, by kind."""
    prepared = prepare_recipe(recipe)
    rows = list(prepared.rows)[: recipe.training.per_device_train_batch_size]
    inputs = prepared.inputs(rows)
    model = DryModel(recipe, prepared.model_path, prepared.mask_form)
    return model.flops(inputs), model.peak_bytes(inputs)


def measured(recipe: Recipe) -> tuple[float, float, object]:
    """FLOPs of one of two steps, the peak of the bytes that training allocates, and the trainer."""
    trainer = build_trainer(recipe)
    gc.collect()  # what another test left would be freed in the midst of the measurement
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, with_flops=True, record_shapes=True) as seen:
        trainer.train()
    live = peak = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    flops = sum(event_flops(event) for event in seen.events() if event.name in PRODUCTS)
    return flops / 2 / recipe.training.gradient_accumulation_steps, peak, trainer


def event_flops(event) -> float:
    """The profiler's count, plus that of `addmm_` from its recorded shapes, which the profiler does not count."""
    if event.name == "aten::addmm_":
        (rows, inner), (_, columns) = event.input_shapes[1:3]
        return 2 * rows * inner * columns
    return event.flops


@pytest.mark.parametrize(
    "overrides",
    [
        {"jepa_weight": 0.0},
        {},
        {**PRICE_OF_SFT, "gradient_checkpointing": True, "num_predictor_tokens": 3},
        {**PRICE_OF_SFT, **LORA, "jepa_readout": "mean", "target_layer": 0.5},
        {**LORA, "gradient_checkpointing": True},
        {"jepa_layout": "rows", "bf16": False},
        {"jepa_objective": "tube"},
        {"gradient_accumulation_steps": 2},
        {"jepa_target": "ema"},
        {"jepa_target": "ema", **LORA},
    ],
    ids=str,
)
def test_a_dry_step_counts_what_the_profiler_counts(settings, overrides):
    recipe = build_recipe(Path("recipe.yaml"), settings | overrides)
    dry_flops, dry_bytes = dry(recipe)
    flops, peak_bytes, trainer = measured(build_recipe(Path("recipe.yaml"), settings | overrides))
    optimizer_bytes = sum(
        value.nbytes
        for state in trainer.optimizer.state.values()
        for value in state.values()
        if torch.is_tensor(value)
    )
    weights = DryModel(recipe, prepare_recipe(recipe).model_path, MaskForm("padding")).weights()
    expected = sum(dry_bytes.values()) + optimizer_bytes + average_bytes(weights, "single", 1)
    assert dry_flops == pytest.approx(flops, rel=0.001)
    assert expected == pytest.approx(peak_bytes, rel=0.05)
