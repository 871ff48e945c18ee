"""A learned temperature is never below 0.01, and can rise from there."""

import math

import pytest
import torch

from llm_jepa.vision.config import VisionConfig
from llm_jepa.vision.temperature import bounded_temperature


@pytest.mark.parametrize(
    ("temperature", "sign", "bounded", "gradient"),
    [(0.07, 1, 0.07, 0.07), (0.07, -1, 0.07, -0.07), (0.002, 1, 0.01, 0.0), (0.002, -1, 0.01, -0.01)],
)
def test_the_bound_and_its_gradient_by_hand(temperature, sign, bounded, gradient):
    """d exp(x) / dx is exp(x); below the bound only what a step turns upwards is left."""
    log_temperature = torch.tensor([math.log(temperature)], requires_grad=True)
    value = bounded_temperature(log_temperature)
    (sign * value.sum()).backward()
    assert value.item() == pytest.approx(bounded)
    assert log_temperature.grad.item() == pytest.approx(gradient)


def test_a_temperature_that_fell_below_rises_again():
    log_temperature = torch.tensor([math.log(0.011)], requires_grad=True)
    optimizer = torch.optim.SGD([log_temperature], lr=1.0)
    seen = []
    for sign in (1, 1, 1, -1):
        value = bounded_temperature(log_temperature)
        seen.append(value.item())
        optimizer.zero_grad()
        (sign * 20 * value.sum()).backward()
        optimizer.step()
    assert seen[1:] == pytest.approx([0.01] * 3)
    assert bounded_temperature(log_temperature).item() > 0.0105


def test_one_that_begins_below_the_bound_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is 0\.001; a learned one .* is at least 0\.01"):
        VisionConfig(output_dir=str(tmp_path), trains_temperature=True, info_nce_temperature=0.001)
