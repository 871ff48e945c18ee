"""Bytes of weights, gradients and optimizer: by arithmetic, and as training has them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bitsandbytes.optim import GlobalOptimManager
from transformers import TrainerCallback

from llm_jepa.inspection.prepared_recipe import prepare_recipe
from llm_jepa.planning.dry_step import DryModel
from llm_jepa.planning.live_bytes import LiveBytes, storage_bytes
from llm_jepa.planning.memory import ModelStates, Weights, average_bytes, model_states, optimizer_bytes
from llm_jepa.recipe import build_recipe
from llm_jepa.train import build_trainer
from tests.planning.conftest import write_model

LORA = {"use_peft": True, "lora_target_modules": "all-linear", "lora_r": 64, "dtype": "bfloat16"}
WEIGHTS = Weights(
    weight_bytes=2000,
    quantised_bytes=400,
    trained_parameters=1000,
    parameters_in_32_bits=100,
    gradient_bytes=2000,
    block_bytes=100,
)


class GradientBytes(TrainerCallback):
    """Adds up the gradients just before an optimizer's step."""

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.bytes = storage_bytes(one.grad for one in model.parameters() if one.grad is not None)


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory) -> str:
    """Wide enough for bitsandbytes' blocks to matter and its tables not to."""
    directory = tmp_path_factory.mktemp("wide")
    write_model(directory, hidden_size=512, intermediate_size=1024, num_hidden_layers=2, tie_word_embeddings=True)
    return str(directory)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"optim": "adamw_bnb_8bit", "num_predictor_tokens": 0},
        LORA,
        {**LORA, "load_in_4bit": True},
        {**LORA, "load_in_4bit": True, "use_bnb_nested_quant": True, "optim": "paged_adamw_8bit"},
        {**LORA, "load_in_8bit": True},
    ],
    ids=str,
)
def test_states_are_those_of_training(settings, wide_model, overrides):
    GlobalOptimManager.get_instance().initialize()  # which knows embeddings of earlier models by their address alone
    given = settings | {"model_name_or_path": wide_model} | overrides
    recipe = build_recipe(Path("recipe.yaml"), given)
    prepared = prepare_recipe(recipe)
    weights = DryModel(recipe, prepared.model_path, prepared.mask_form).weights()
    expected = model_states(weights, str(given.get("optim", "adamw_torch_fused")), "single", 1, is_half=True)

    trainer = build_trainer(build_recipe(Path("recipe.yaml"), given))
    gradients = GradientBytes()
    trainer.add_callback(gradients)
    parameters = [*trainer.model.parameters(), *trainer.model.buffers()]
    if trainer.predictor is not None:
        parameters.append(trainer.predictor.vectors_KD)
    held = storage_bytes([*parameters, *(tensor for one in parameters for tensor in quantisation_tensors(one))])
    trainer.train()
    state = [tensor for one in trainer.optimizer.state.values() for tensor in one.values() if torch.is_tensor(tensor)]
    assert expected.weights == pytest.approx(held, rel=0.02)
    assert weights.gradient_bytes == pytest.approx(gradients.bytes, rel=0.02)
    assert expected.optimizer == pytest.approx(storage_bytes(state), rel=0.02)


def quantisation_tensors(parameter: torch.Tensor) -> list[torch.Tensor]:
    """What bitsandbytes keeps beside a quantised weight, but for the tables that all weights share."""
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        nested = [state.state2.absmax] if state.nested else []
        return [state.absmax, *nested]
    scales = getattr(parameter, "SCB", None)
    return [] if scales is None else [scales]


@pytest.mark.parametrize(
    ("launch", "num_devices", "is_half", "expected"),
    [
        ("single", 1, True, ModelStates(2000, 8000, 1, 0)),
        ("multi-gpu", 4, True, ModelStates(2000, 8000, 1, 2000)),
        ("zero1", 4, True, ModelStates(2000, 3000, 1, 4000)),  # 8 + 4 bytes a parameter, of which a quarter
        ("zero1", 4, False, ModelStates(2000, 2000, 1, 8000)),
        ("zero2", 4, True, ModelStates(2000, 3000, 0.25, 4000)),
        ("zero3", 4, True, ModelStates(800, 3000, 0.25, 200)),
        ("fsdp2", 4, True, ModelStates(800, 3000, 0.25, 200)),
        ("zero3-offload", 4, True, ModelStates(400, 0, 0.25, 200)),
    ],
)
def test_what_a_launcher_leaves_on_a_device(launch, num_devices, is_half, expected):
    assert model_states(WEIGHTS, "adamw_torch", launch, num_devices, is_half) == expected


@pytest.mark.parametrize(
    ("launch", "expected"),
    [
        ("single", 1200),
        ("multi-gpu", 1200),
        ("zero1", 1200),
        ("zero2", 1200),
        ("zero3", 300),
        ("fsdp2", 300),
        ("zero3-offload", 0),
    ],
)
def test_averages_lie_where_the_weights_do(launch, expected):
    """300 averages of 4 bytes over 4 devices; none without averaged targets."""
    assert average_bytes(replace(WEIGHTS, averaged_parameters=300), launch, 4) == expected
    assert average_bytes(WEIGHTS, launch, 4) == 0


def test_8_bit_states_with_those_that_stay_in_32():
    """900 parameters of two bytes and two 256ths of 4, 100 of eight bytes."""
    assert optimizer_bytes(WEIGHTS, "paged_adamw_8bit") == 900 * 2 + 900 * 2 / 64 + 800


def test_an_unknown_optimizer_is_an_error():
    with pytest.raises(ValueError, match="optim: galore"):
        model_states(WEIGHTS, "galore", "single", 1, True)


def test_live_bytes_of_a_hand_computed_graph():
    """x (40 bytes) is there before; y = 2 x and z = y y live together, then their gradients."""
    x = torch.ones(10, requires_grad=True)
    with LiveBytes(lambda tensor: "activations", [x], [x]) as live:
        y = x * 2
        z = y * y
        assert live.peak == {"activations": 80}
        del y, z
        a = torch.zeros(10)
        assert live.peak == {"activations": 80}
        del a
    assert live.peak == {"activations": 80}


def test_accumulated_gradients_count_by_their_share():
    x = torch.ones(1000, requires_grad=True)
    with LiveBytes(lambda tensor: "activations", [x], [x], gradient_share=0.25) as live:
        (x * 3).sum().backward()
        torch.zeros(2000)
    assert live.peak["gradients"] == 4000 / 4
    assert live.peak["activations"] == 8000
