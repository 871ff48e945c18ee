"""The parameters of an objective's own: when the model has them, their way to disk, their learning rate."""

import pytest
import torch
from torch import nn

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
from llm_jepa.objectives.predictor import PredictorTokens, new_predictor
from llm_jepa.training.predictor_trainer import split_groups
from tests.tiny import tiny_llama


def test_saved_vectors_are_restored_bit_for_bit(tmp_path):
    """Beside a checkpoint, in safetensors."""
    model = tiny_llama()
    predictor, other = new_predictor(model, 3, seed=0), new_predictor(model, 3, seed=1)
    save_state(gathered_state(predictor), tmp_path)
    load_state(other, tmp_path)
    assert torch.equal(other.vectors_KD, predictor.vectors_KD)
    assert other.vectors_KD.requires_grad


def test_gathered_vectors_are_a_copy():
    """What is saved does not change when training goes on."""
    predictor = PredictorTokens(torch.zeros(1, 2))
    gathered_KD = gathered_state(predictor)["vectors_KD"]
    with torch.no_grad():
        predictor.vectors_KD.add_(1)
    assert gathered_KD.tolist() == [[0.0, 0.0]]


def test_checkpoint_without_vectors_is_refused(tmp_path):
    """It was written with k = 0."""
    with pytest.raises(ValueError, match=f"no {PREDICTOR_FILE}"):
        load_state(PredictorTokens(torch.zeros(1, 2)), tmp_path)


def test_checkpoint_with_another_number_of_vectors_is_refused(tmp_path):
    """The message tells both; the vectors stay as they were."""
    save_state({"vectors_KD": torch.ones(2, 4)}, tmp_path)
    predictor = PredictorTokens(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"\(2, 4\).*\(3, 4\)"):
        load_state(predictor, tmp_path)
    assert predictor.vectors_KD.abs().sum().item() == 0


def parameter_names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def test_registered_vectors_are_parameters_of_the_model_for_a_while():
    """Optimizers and launchers find them; afterwards the state dict is what it was."""
    model = tiny_llama()
    before = list(model.state_dict())
    with predictor_registered(model, new_predictor(model, 1, seed=0)):
        assert f"{PREDICTOR_MODULE}.vectors_KD" in parameter_names(model)
        assert list(model.state_dict()) == [*before, f"{PREDICTOR_MODULE}.vectors_KD"]
    assert list(model.state_dict()) == before


def test_registered_vectors_leave_the_model_when_training_fails():
    """A model that is used on must not carry them."""
    model = tiny_llama()
    before = list(model.state_dict())

    def fail_in_training():
        with predictor_registered(model, new_predictor(model, 1, seed=0)):
            raise KeyError("in training")

    with pytest.raises(KeyError, match="in training"):
        fail_in_training()
    assert list(model.state_dict()) == before


def test_without_predictor_tokens_nothing_is_registered():
    """k = 0."""
    model = tiny_llama()
    before = parameter_names(model)
    with predictor_registered(model, None):
        assert parameter_names(model) == before


def test_unregistered_model_is_the_plain_one():
    """While a checkpoint is written; then training goes on with the vectors, also if the writing fails."""
    model = tiny_llama()
    before = list(model.state_dict())
    predictor = new_predictor(model, 1, seed=0)
    with predictor_registered(model, predictor):
        with predictor_unregistered(model):
            assert list(model.state_dict()) == before

        def fail_to_write():
            with predictor_unregistered(model):
                raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            fail_to_write()
        assert model.get_submodule(PREDICTOR_MODULE) is predictor
    assert list(model.state_dict()) == before


def test_unregistered_leaves_a_plain_model_alone():
    """Evaluation before training saves nothing, but a save may come without training."""
    model = tiny_llama()
    before = list(model.state_dict())
    with predictor_unregistered(model):
        assert list(model.state_dict()) == before
    assert list(model.state_dict()) == before


def test_gathered_state_dict_loses_the_predictor_alone():
    """By a whole part of the name, wherever wrappers have put the model."""
    value = torch.zeros(1)
    state_dict = {
        "lm_head.weight": value,
        f"{PREDICTOR_MODULE}.vectors_KD": value,
        f"base_model.model.{PREDICTOR_MODULE}.vectors_KD": value,
        f"not_{PREDICTOR_MODULE}.weight": value,
    }
    assert set(without_predictor(state_dict)) == {"lm_head.weight", f"not_{PREDICTOR_MODULE}.weight"}


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    """The message names what differs alone."""
    save_state(gathered_state(nn.Linear(2, 3)), tmp_path)
    with pytest.raises(ValueError, match=r"holds `weight` \(3, 2\); the recipe asks for `weight` \(3, 4\)\."):
        load_state(nn.Linear(4, 3), tmp_path)


def test_own_parameters_move_to_groups_of_another_rate_with_the_settings_of_theirs():
    model, own = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = [{"params": [model.weight, own.weight], "weight_decay": 0.1}, {"params": [own.bias, model.bias]}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.0)
    split_groups(optimizer, {id(parameter) for parameter in own.parameters()}, 1e-2)
    found = [([id(p) for p in g["params"]], g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert found == [
        ([id(model.weight)], 1e-3, 0.1),
        ([id(model.bias)], 1e-3, 0.0),
        ([id(own.weight)], 1e-2, 0.1),
        ([id(own.bias)], 1e-2, 0.0),
    ]
