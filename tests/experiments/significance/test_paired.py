"""The paired difference of two arms: figures by hand, and what happens where there is no spread."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llm_jepa.experiments.significance import Interval, PairedDifference, paired_difference


def test_figures_by_hand():
    """Three of ten rows differ, at one to three of the five seeds.

    Over seeds 30, 20, 10, 0, 0 points: variance 170. Over rows 20, 40, 60 and seven 0: variance 4160 / 9.
    """
    arm_SR = np.zeros((5, 10))
    arm_SR[0, 0] = arm_SR[:2, 1] = arm_SR[:3, 2] = 1
    found = paired_difference(arm_SR, np.zeros((5, 10)))
    assert found.mean == pytest.approx(0.12)
    assert found.seed_interval is not None
    assert found.row_interval is not None
    assert found.interval is not None
    over_seeds, over_rows = 0.027764 * math.sqrt(170 / 5), 0.022622 * math.sqrt(4160 / 9 / 10)
    assert (found.seed_interval.low, found.seed_interval.high) == pytest.approx(
        (0.12 - over_seeds, 0.12 + over_seeds), rel=1e-4
    )
    assert (found.row_interval.low, found.row_interval.high) == pytest.approx(
        (0.12 - over_rows, 0.12 + over_rows), rel=1e-4
    )
    assert found.interval.high - found.interval.low > 2 * max(over_seeds, over_rows)
    assert (found.n_seeds, found.n_rows, found.n_clusters) == (5, 10, None)


def test_intervals_of_one_source_against_scipy():
    """Over seeds: the paired t test of the scores; over rows, of one seed: that of the rows."""
    draw = np.random.default_rng(1)
    arm_SR, baseline_SR = draw.random((5, 300)) < 0.6, draw.random((5, 300)) < 0.5
    five, single = paired_difference(arm_SR, baseline_SR), paired_difference(arm_SR[:1], baseline_SR[:1])
    expected = stats.ttest_rel(arm_SR.mean(axis=1), baseline_SR.mean(axis=1)).confidence_interval(0.95)
    assert five.seed_interval is not None
    assert (five.seed_interval.low, five.seed_interval.high) == pytest.approx((expected.low, expected.high))
    expected = stats.ttest_rel(arm_SR[0].astype(float), baseline_SR[0].astype(float)).confidence_interval(0.95)
    assert single.row_interval is not None
    assert (single.row_interval.low, single.row_interval.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.filterwarnings("error")
def test_differences_without_spread():
    """None at all: p = 1. Constant over seeds: the sign-flip test, 2 of the 2^5 sign patterns are as extreme."""
    right = np.ones((5, 16))
    none = paired_difference(right, right)
    assert (none.p_value, none.interval, none.seed_interval, none.row_interval) == (1.0, None, None, None)
    assert none.detectable_difference(0.05) is None
    every_row = paired_difference(right, np.zeros((5, 16)))
    assert (every_row.p_value, every_row.interval, every_row.seeds_differ) == (2 / 2**5, None, False)
    half_of_the_rows = np.tile([0, 1], (5, 8))
    some_rows = paired_difference(right, half_of_the_rows)
    assert some_rows.p_value == 2 / 2**5
    assert some_rows.interval is not None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("shape", "has_seeds", "has_rows"), [((1, 8), False, True), ((5, 1), True, False)])
def test_one_seed_or_one_row_has_no_p_value(shape: tuple[int, int], has_seeds: bool, has_rows: bool):
    arm_SR = np.arange(math.prod(shape)).reshape(shape) % 2
    found = paired_difference(arm_SR, np.zeros(shape))
    assert (found.p_value, found.interval) == (None, None)
    assert (found.seed_interval is not None) == has_seeds
    assert (found.row_interval is not None) == has_rows


@pytest.mark.parametrize("n_differing", [1, 2, 4, 5])
def test_few_rows_that_differ_prove_nothing(n_differing: int):
    """3 of 300 rows right at every other seed: t over rows alone would say p = 0.08, and 5 rows 0.03."""
    arm_SR = np.zeros((6, 300))
    arm_SR[:, :n_differing] = 1
    arm_SR[0, 0] = 0  # else the seeds do not differ
    found = paired_difference(arm_SR, np.zeros((6, 300)))
    assert found.p_value is not None
    assert found.p_value >= 2 ** (1 - n_differing)


@pytest.mark.filterwarnings("error")
@given(st.integers(2, 5), st.integers(2, 8), st.integers(0, 1000))
def test_turning_arm_and_baseline_round_changes_the_sign_alone(n_seeds: int, n_rows: int, seed: int):
    """And p is a probability, whatever the scores."""
    arm, baseline = np.random.default_rng(seed).integers(0, 2, (2, n_seeds, n_rows))
    forth, back = paired_difference(arm, baseline), paired_difference(baseline, arm)
    assert forth.p_value is not None
    assert 0 <= forth.p_value <= 1
    assert back.p_value == pytest.approx(forth.p_value)
    assert (back.mean, back.direction) == pytest.approx((-forth.mean, -forth.direction))


def test_the_interval_excludes_0_where_p_is_below_5_percent():
    """The two say the same, unless few rows or equal seeds raise p."""
    draw = np.random.default_rng(2)
    found = [paired_difference(*draw.integers(0, 2, (2, 5, 60))) for _ in range(200)]
    assert any(difference.p_value is not None and difference.p_value < 0.05 for difference in found)
    for difference in found:
        assert difference.interval is not None
        assert difference.p_value is not None
        assert (difference.interval.low > 0 or difference.interval.high < 0) == (difference.p_value < 0.05)


def test_clusters_widen_and_are_counted():
    draw = np.random.default_rng(3)
    arm_SR = np.repeat(draw.integers(0, 2, (5, 30)), 4, axis=1)
    free = paired_difference(arm_SR, np.zeros((5, 120)))
    clustered = paired_difference(arm_SR, np.zeros((5, 120)), np.repeat(np.arange(30), 4).tolist())
    assert isinstance(clustered, PairedDifference)
    assert clustered.standard_error > free.standard_error
    assert (clustered.mean, clustered.n_rows, clustered.n_clusters) == (pytest.approx(free.mean), 120, 30)
    assert "over 120 test rows in 30 clusters alone" in clustered.figures


def test_a_cluster_of_nearly_all_rows_bounds_intervals_and_finds_nothing():
    """Clusters of 40, 3 and 2 rows: 2025 / 1613 effective ones. Four of five seeds agree."""
    arm_SR = np.tile(np.array([1] * 20 + [0] * 20 + [0, 1, 0] + [1, 1]), (5, 1))
    arm_SR[0, 0] = 0
    found = paired_difference(arm_SR, np.zeros((5, 45)), ["a"] * 40 + ["b"] * 3 + ["c"] * 2)
    assert found.degrees_of_freedom == pytest.approx(2025 / 1613 - 1, rel=0.05)
    assert found.interval == found.row_interval == Interval(-1.0, 1.0)
    assert found.detectable_difference(0.05) == 2.0
    assert "-100.0 to +100.0 over 45 test rows in 3 clusters alone" in found.figures


@pytest.mark.parametrize(
    ("arm", "baseline", "clusters", "message"),
    [
        ([[1, 0]], [[1, 0, 1]], None, r"Rows must be \(seeds, rows\)"),
        ([1, 0], [1, 0], None, r"Rows must be \(seeds, rows\)"),
        ([[]], [[]], None, r"Rows must be \(seeds, rows\)"),
        ([[1, math.nan]], [[1, 0]], None, "finite number"),
        ([[1, 0]], [[1, 0]], ["a"], "2 rows and 1 clusters"),
    ],
)
def test_rows_that_do_not_pair_are_refused(arm: list, baseline: list, clusters: list | None, message: str):
    with pytest.raises(ValueError, match=message):
        paired_difference(arm, baseline, clusters)
