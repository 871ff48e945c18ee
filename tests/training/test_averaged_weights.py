"""Averages of trained weights: the formula, the exchange with the weights, the way to disk."""

import pytest
import torch
from torch import nn

from llm_jepa.training.averaged_weights import AveragedWeights
from llm_jepa.training.averaging_trainer import warmed_up_decay


def linear(weight: float, dtype: torch.dtype = torch.float32) -> nn.Linear:
    """y = weight * x, its bias frozen."""
    module = nn.Linear(1, 1).to(dtype)
    with torch.no_grad():
        module.weight.fill_(weight)
    module.bias.requires_grad_(False)
    return module


def value_of(averages: AveragedWeights, module: nn.Linear) -> float:
    with averages.swapped_in():
        return module.weight.item()


def test_the_average_by_hand():
    """It begins as the weight 2; then 0.75 * 2 + 0.25 * 4 = 2.5, and 0.5 * 2.5 + 0.5 * 0 = 1.25."""
    module = linear(2.0)
    averages = AveragedWeights(module, module)
    seen = [value_of(averages, module)]
    for weight, decay in ((4.0, 0.75), (0.0, 0.5)):
        nn.init.constant_(module.weight, weight)
        averages.update(decay)
        seen.append(value_of(averages, module))
        assert module.weight.item() == weight
    assert seen == [2.0, 2.5, 1.25]


def test_decay_0_is_the_weight_bit_for_bit():
    module = linear(0.1)
    averages = AveragedWeights(module, module)
    nn.init.constant_(module.weight, 1 / 3)
    averages.update(0.0)
    assert value_of(averages, module) == module.weight.item()


def test_averages_of_16_bit_weights_are_kept_in_32():
    """bfloat16 has no number between 1 and 1 + 1/128, to which the average moves in steps of a quarter of the rest."""
    module = linear(1.0, torch.bfloat16)
    averages = AveragedWeights(module, module)
    nn.init.constant_(module.weight, 1 + 2**-7)
    for _ in range(4):
        averages.update(0.75)
    assert averages._averages["weight"].item() == pytest.approx(1 + 2**-7 * (1 - 0.75**4), rel=1e-6)
    assert value_of(averages, module) == 1 + 2**-7  # the nearer one
    assert module.weight.dtype == torch.bfloat16


def test_the_exchange_leaves_no_trace():
    """The same memory and version afterwards, also when the forward fails; frozen parameters are not averaged."""
    module = linear(2.0)
    averages = AveragedWeights(module, module)
    nn.init.constant_(module.weight, 4.0)
    before = module.weight.data_ptr(), module.weight._version, module.weight.item()

    def fail():
        with averages.swapped_in():
            assert module.weight.item() == 2.0
            raise KeyError("in the forward")

    with pytest.raises(KeyError, match="in the forward"):
        fail()
    assert (module.weight.data_ptr(), module.weight._version, module.weight.item()) == before
    assert set(averages._averages) == {"weight"}


def test_saved_averages_are_those_of_the_process_that_reads_them(tmp_path):
    module, other = linear(1 / 3), linear(0.0)
    AveragedWeights(module, module).save(tmp_path / "new" / "averages.safetensors")
    averages = AveragedWeights(other, other)
    averages.load(tmp_path / "new" / "averages.safetensors")
    assert value_of(averages, other) == module.weight.item()


def test_averages_that_are_missing_or_of_other_weights_are_refused(tmp_path):
    module = linear(2.0)
    averages = AveragedWeights(module, module)
    with pytest.raises(ValueError, match=r"has no averages\.safetensors: it was not trained with averaged targets"):
        averages.load(tmp_path / "averages.safetensors")
    wide = nn.Linear(2, 1)
    AveragedWeights(wide, wide).save(tmp_path / "averages.safetensors")
    with pytest.raises(ValueError, match="averages of other weights than this recipe trains"):
        averages.load(tmp_path / "averages.safetensors")
    assert value_of(averages, module) == 2.0


def test_the_decay_rises_over_the_first_steps():
    assert [warmed_up_decay(0.8, 4, step) for step in range(6)] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 0.8])
    assert [warmed_up_decay(0.8, 0, step) for step in range(2)] == [0.8, 0.8]
