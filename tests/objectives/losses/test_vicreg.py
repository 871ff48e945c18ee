"""VICReg's variance and covariance: values by hand, a slow loop as the oracle, its limits, its gradients."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llm_jepa.objectives.losses import vicreg_loss


def sample(seed: int, rows: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def slow_vicreg(rows: list[list[float]]) -> float:
    """Written out: every entry of the covariance, the hinge of the diagonal, the squares off it."""
    n, width = len(rows), len(rows[0])
    means = [sum(row[d] for row in rows) / n for d in range(width)]
    hinge = squares = 0.0
    for d in range(width):
        for e in range(width):
            entry = sum((row[d] - means[d]) * (row[e] - means[e]) for row in rows) / (n - 1)
            if d == e:
                hinge += max(0.0, 1 - math.sqrt(entry + 1e-4))
            else:
                squares += entry**2
    return hinge / width + squares / width / 25


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 6), width=st.integers(1, 5))
def test_slow_loop_agrees(seed: int, rows: int, width: int):
    embedding_ND = sample(seed, rows, width)
    assert vicreg_loss(embedding_ND).item() == pytest.approx(slow_vicreg(embedding_ND.tolist()), rel=1e-9, abs=1e-12)


def test_two_rows_by_hand():
    """(0, 0) and (2, 1): variances 2 and 1/2, covariance 1. Hinge: (0 + 1 - sqrt(.5001)) / 2. 2 * 1^2 / 2 / 25."""
    embedding_ND = torch.tensor([[0.0, 0.0], [2.0, 1.0]], dtype=torch.float64)
    expected = (1 - math.sqrt(0.5001)) / 2 + 1 / 25
    assert vicreg_loss(embedding_ND).item() == pytest.approx(expected, rel=1e-12)


def test_a_collapsed_batch_has_the_whole_hinge_and_no_covariance():
    """1 - sqrt(1e-4) in each dimension."""
    assert vicreg_loss(torch.full((5, 3), 7.0)).item() == pytest.approx(0.99, rel=1e-6)


def test_uncorrelated_dimensions_of_unit_variance_cost_nothing():
    """The four corners of a square, scaled to a variance of 1."""
    corners_ND = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]) * math.sqrt(3 / 4)
    assert vicreg_loss(corners_ND).item() == pytest.approx(0.0, abs=1e-6)


def test_a_large_standard_gaussian_sample_costs_little():
    assert vicreg_loss(sample(0, 4000, 8)) < 0.02


def test_gradients_are_those_of_finite_differences_with_padding_and_without():
    embedding_ND, is_row_N = sample(1, 4, 3).requires_grad_(), torch.tensor([True, True, False, True])
    assert torch.autograd.gradcheck(vicreg_loss, (embedding_ND,))
    assert torch.autograd.gradcheck(lambda z: vicreg_loss(z, is_row_N), (embedding_ND,))


def test_a_collapsed_batch_has_a_finite_gradient():
    """The offset keeps the square root's derivative finite at a variance of 0."""
    embedding_ND = torch.ones(4, 3, requires_grad=True)
    vicreg_loss(embedding_ND).backward()
    assert embedding_ND.grad.isfinite().all()


def test_padding_counts_nothing():
    embedding_ND, is_row_N = sample(2, 5, 3), torch.tensor([True, False, True, True, False])
    torch.testing.assert_close(vicreg_loss(embedding_ND, is_row_N), vicreg_loss(embedding_ND[is_row_N]))


def test_half_precision_and_autocast_are_computed_in_float32():
    embedding_ND = sample(3, 8, 64, torch.bfloat16)
    expected = vicreg_loss(embedding_ND.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(vicreg_loss(embedding_ND), expected)


def test_one_row_has_no_spread():
    with pytest.raises(ValueError, match="it needs two rows, not 1"):
        vicreg_loss(torch.ones(1, 2))
