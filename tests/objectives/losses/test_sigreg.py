"""SIGReg: values by hand, a slow loop and the closed form as oracles, its limits, its gradients."""

import cmath
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llm_jepa.objectives.draws import unit_directions
from llm_jepa.objectives.losses import sigreg_loss

AXES = torch.eye(2, dtype=torch.float64)
OF_GAUSSIAN = math.sqrt(2 * math.pi) - math.sqrt(2 * math.pi / 3)
"""The mean of the statistic of a standard Gaussian sample: the integral of (1 - exp(-t^2)) exp(-t^2 / 2)."""
OF_ZERO = math.sqrt(2 * math.pi) - 2 * math.sqrt(math.pi) + math.sqrt(2 * math.pi / 3)
"""That of one zero: the integral of (1 - exp(-t^2 / 2))^2 exp(-t^2 / 2)."""


def sample(seed: int, rows: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def directions(width: int, number: int = 8, step: int = 0) -> Tensor:
    return unit_directions(0, step, number, width, torch.device("cpu"))


def slow_sigreg(rows: list[list[float]], units: list[list[float]]) -> float:
    """Written out: the trapezoidal rule over |mean exp(itx) - exp(-t^2/2)|^2 exp(-t^2/2), direction by direction."""
    step = 10 / 16
    total = 0.0
    for unit in units:
        projections = [sum(u * z for u, z in zip(unit, row, strict=True)) for row in rows]
        for q in range(17):
            t = -5 + q * step
            empirical = sum(cmath.exp(1j * t * x) for x in projections) / len(rows)
            weight = step if 0 < q < 16 else step / 2
            total += weight * abs(empirical - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t / 2)
    return len(rows) * total / len(units)


def exact_statistic(projection_N: Tensor) -> float:
    """The integral without quadrature (Henze and Zirkler 1990)."""
    n = len(projection_N)
    difference_NN = projection_N[:, None] - projection_N[None, :]
    pairs = math.sqrt(2 * math.pi) * torch.exp(-difference_NN.square() / 2).sum() / n
    singles = 2 * math.sqrt(math.pi) * torch.exp(-projection_N.square() / 4).sum()
    return (pairs - singles + n * math.sqrt(2 * math.pi / 3)).item()


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 6), width=st.integers(1, 4))
def test_slow_loop_agrees(seed: int, rows: int, width: int):
    embedding_ND, direction_SD = sample(seed, rows, width), directions(width, 3)
    expected = slow_sigreg(embedding_ND.tolist(), direction_SD.tolist())
    assert sigreg_loss(embedding_ND, direction_SD).item() == pytest.approx(expected, rel=1e-9)


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 20))
def test_seventeen_points_give_the_integral(seed: int, rows: int):
    """For projections within 2.7 standard deviations.

    A pair d apart is off by about exp(-(2 pi / 0.625 - d)^2 / 2), of points 0.625 apart: 2e-5 at 5.4, but 0.1 at 8.
    """
    embedding_ND = sample(seed, rows, 1).clamp(-2.7, 2.7)
    actual = sigreg_loss(embedding_ND, torch.ones(1, 1, dtype=torch.float64)).item()
    assert actual == pytest.approx(exact_statistic(embedding_ND[:, 0]), abs=1e-4 * rows)


def test_two_opposite_rows_by_hand():
    """Of the projections 1 and -1 on the first axis phi is cos t; on the second both are 0, as if collapsed."""
    embedding_ND = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    pair = math.sqrt(2 * math.pi) * (1 + math.exp(-2)) - 4 * math.sqrt(math.pi) * math.exp(-0.25)
    first = pair + 2 * math.sqrt(2 * math.pi / 3)
    assert sigreg_loss(embedding_ND, AXES).item() == pytest.approx((first + 2 * OF_ZERO) / 2, abs=1e-4)


@pytest.mark.parametrize("rows", [2, 64])
def test_a_collapsed_batch_grows_with_its_rows_and_a_gaussian_one_does_not(rows: int):
    """N zeros: 0.41 N. Gaussian samples: 1.06 on average over many, whatever N is."""
    zeros = sigreg_loss(torch.zeros(rows, 8, dtype=torch.float64), directions(8)).item()
    assert zeros == pytest.approx(OF_ZERO * rows, rel=1e-4)
    samples = [sigreg_loss(sample(seed, rows, 8), directions(8, 64, seed)).item() for seed in range(60)]
    assert sum(samples) / len(samples) == pytest.approx(OF_GAUSSIAN, rel=0.1)


def test_a_batch_on_one_line_is_further_from_gaussian_than_one_that_spreads():
    """Both have the same mean square, so that the directions alone differ."""
    spread_ND = sample(0, 256, 16)
    line_ND = spread_ND[:, :1] * torch.ones(16, dtype=torch.float64)
    assert sigreg_loss(line_ND, directions(16)) > 10 * sigreg_loss(spread_ND, directions(16))


def test_descent_spreads_a_collapsed_batch():
    """From rows that nearly coincide to the statistic of a sample."""
    embedding_ND = (1 + 0.01 * sample(1, 16, 4)).requires_grad_()
    optimizer = torch.optim.Adam([embedding_ND], lr=0.05)
    for step in range(150):
        optimizer.zero_grad()
        sigreg_loss(embedding_ND, directions(4, 16, step)).backward()
        optimizer.step()
    assert sigreg_loss(embedding_ND, directions(4, 64, 999)) < OF_GAUSSIAN
    assert (embedding_ND.std(dim=0) > 0.7).all()


def test_gradients_are_those_of_finite_differences_with_padding_and_without():
    embedding_ND = sample(2, 4, 3).requires_grad_()
    direction_SD, is_row_N = directions(3), torch.tensor([True, True, False, True])
    assert torch.autograd.gradcheck(lambda z: sigreg_loss(z, direction_SD), (embedding_ND,))
    assert torch.autograd.gradcheck(lambda z: sigreg_loss(z, direction_SD, is_row_N), (embedding_ND,))


def test_padding_counts_nothing():
    embedding_ND, direction_SD = sample(3, 5, 3), directions(3)
    is_row_N = torch.tensor([True, False, True, True, False])
    expected = sigreg_loss(embedding_ND[is_row_N], direction_SD)
    torch.testing.assert_close(sigreg_loss(embedding_ND, direction_SD, is_row_N), expected)


def test_half_precision_and_autocast_are_computed_in_float32():
    embedding_ND, direction_SD = sample(4, 8, 64, torch.bfloat16), directions(64)
    expected = sigreg_loss(embedding_ND.float(), direction_SD)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sigreg_loss(embedding_ND, direction_SD), expected)


def test_one_row_has_no_spread():
    with pytest.raises(ValueError, match="it needs two rows, not 1"):
        sigreg_loss(torch.ones(1, 2, dtype=torch.float64), AXES)
