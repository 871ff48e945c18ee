"""The distances: hand-computed values, a slow loop as the oracle, gradients by finite differences."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llm_jepa.objectives.losses import cosine_loss, l2_loss, mse_loss, pair_loss

LOSSES = {"cosine": cosine_loss, "l2": l2_loss, "mse": mse_loss}
Loss = Callable[[Tensor, Tensor], Tensor]


def slow_cosine(prediction: list[float], target: list[float]) -> float:
    dot = sum(p * t for p, t in zip(prediction, target, strict=True))
    return 1 - dot / (math.hypot(*prediction) * math.hypot(*target))


def slow_l2(prediction: list[float], target: list[float]) -> float:
    return math.dist(prediction, target)


def slow_mse(prediction: list[float], target: list[float]) -> float:
    return sum((p - t) ** 2 for p, t in zip(prediction, target, strict=True)) / len(prediction)


SLOW = {"cosine": slow_cosine, "l2": slow_l2, "mse": slow_mse}


def random_pair(seed: int, rows: int, width: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, width, generator=generator, dtype=dtype) for _ in range(2))


def test_cosine_by_hand():
    """Same direction 0, right angle 1, opposite 2, 45 degrees 1 - sqrt(1/2); lengths do not matter."""
    prediction = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0], [3.0, 0.0]])
    target = torch.tensor([[7.0, 0.0], [0.0, 5.0], [-2.0, -2.0], [1.0, 1.0]])
    torch.testing.assert_close(cosine_loss(prediction, target), torch.tensor([0.0, 1.0, 2.0, 1 - math.sqrt(0.5)]))


def test_l2_by_hand():
    """The norm of the difference of each row: 3-4-5, and 0."""
    prediction = torch.tensor([[3.0, 0.0], [1.0, 2.0]])
    target = torch.tensor([[0.0, 4.0], [1.0, 2.0]])
    assert l2_loss(prediction, target).tolist() == [5.0, 0.0]


def test_mse_by_hand():
    """(1 + 4 + 9) / 3."""
    assert mse_loss(torch.tensor([[1.0, 2.0, 3.0]]), torch.zeros(1, 3)).item() == pytest.approx(14 / 3)


@pytest.mark.parametrize("kind", LOSSES)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 5), width=st.integers(1, 7))
def test_slow_loop_agrees(kind: str, seed: int, rows: int, width: int):
    """One loss per row, each from its own row alone."""
    prediction_ND, target_ND = random_pair(seed, rows, width)
    expected = [
        SLOW[kind](prediction, target)
        for prediction, target in zip(prediction_ND.tolist(), target_ND.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        LOSSES[kind](prediction_ND, target_ND), torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=1e-9
    )


@pytest.mark.parametrize("kind", LOSSES)
def test_gradients_through_both_arguments(kind: str):
    """Against finite differences, in float64."""
    prediction_ND, target_ND = (tensor.requires_grad_() for tensor in random_pair(0, 3, 4))
    assert torch.autograd.gradcheck(LOSSES[kind], (prediction_ND, target_ND))


@pytest.mark.parametrize("kind", LOSSES)
def test_gradient_is_finite_where_prediction_equals_target(kind: str):
    """The norm has no derivative there; the loss must not make NaN of it."""
    prediction_ND = torch.ones(2, 3, requires_grad=True)
    LOSSES[kind](prediction_ND, torch.ones(2, 3)).sum().backward()
    assert torch.isfinite(prediction_ND.grad).all()


@pytest.mark.parametrize("kind", LOSSES)
def test_half_precision_is_computed_in_float32(kind: str):
    """bfloat16 embeddings give the same loss as their float32 copies, bit for bit."""
    prediction_ND, target_ND = random_pair(1, 4, 64, torch.bfloat16)
    loss_N = LOSSES[kind](prediction_ND, target_ND)
    assert loss_N.dtype == torch.float32
    assert torch.equal(loss_N, LOSSES[kind](prediction_ND.float(), target_ND.float()))


@pytest.mark.parametrize("kind", LOSSES)
def test_autocast_does_not_touch_the_loss(kind: str):
    """The trainer computes it under autocast."""
    prediction_ND, target_ND = random_pair(2, 4, 64, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss_N = LOSSES[kind](prediction_ND, target_ND)
    assert torch.equal(loss_N, LOSSES[kind](prediction_ND, target_ND))


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize(("prediction_shape", "target_shape"), [((2, 3), (3, 3)), ((2, 3), (2, 4)), ((3,), (3,))])
def test_wrong_shapes_are_named(kind: str, prediction_shape: tuple[int, ...], target_shape: tuple[int, ...]):
    """No silent broadcast."""
    with pytest.raises(ValueError, match="rows, width") as error:
        LOSSES[kind](torch.zeros(prediction_shape), torch.zeros(target_shape))
    assert str(prediction_shape) in str(error.value)
    assert str(target_shape) in str(error.value)


@pytest.mark.parametrize("kind", LOSSES)
def test_recipe_name_finds_the_loss(kind: str):
    """`pair_loss` by its name in a recipe."""
    prediction_ND, target_ND = random_pair(3, 2, 4)
    assert torch.equal(pair_loss(kind, prediction_ND, target_ND), LOSSES[kind](prediction_ND, target_ND))
