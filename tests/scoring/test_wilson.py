"""The Wilson interval by hand, against scipy, and its coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llm_jepa.scoring import wilson_interval


def test_none_and_all_of_100_by_hand():
    """At p = 0 the bounds are 0 and z^2 / (count + z^2) = 3.8415 / 103.8415."""
    assert wilson_interval(0, 100) == pytest.approx((0.0, 0.036994), abs=1e-6)
    assert wilson_interval(100, 100) == pytest.approx((1 - 0.036994, 1.0), abs=1e-6)


@given(st.integers(1, 2000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_the_bounds_are_scipys_and_hold_the_share(hits_and_count: tuple[int, int]):
    hits, count = hits_and_count
    low, high = wilson_interval(hits, count)
    expected = stats.binomtest(hits, count).proportion_ci(0.95, "wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= hits / count <= high <= 1
    assert wilson_interval(count - hits, count) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_nearly_95_of_100_intervals_hold_the_true_share(share: float):
    """Exact: the binomial weight of the hits whose interval holds it. `p +- 1.96 SE` holds 2 % with 0.87."""
    hits = np.arange(101)
    bounds = np.array([wilson_interval(int(k), 100) for k in hits])
    held = (bounds[:, 0] <= share) & (share <= bounds[:, 1])
    assert stats.binom.pmf(hits, 100, share)[held].sum() == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(("hits", "count"), [(0, 0), (-1, 10), (11, 10), (math.nan, 10)])
def test_what_is_no_share_is_refused(hits, count):
    with pytest.raises(ValueError, match="hits from 0 to count"):
        wilson_interval(hits, count)
