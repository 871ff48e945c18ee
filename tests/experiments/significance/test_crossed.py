"""The crossed standard error: values by hand, a slow reference, scipy where a source is absent."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llm_jepa.experiments.significance.crossed import (
    CrossedMean,
    cluster_means,
    cluster_totals,
    crossed_mean,
    effective_clusters,
)


def slow_crossed_variance(value_SC: np.ndarray) -> tuple[float, float, float]:
    """V_s, V_c and V_r of `crossed_mean` by loops over the cells."""
    n_seeds, n_clusters = value_SC.shape
    mean = value_SC.mean()
    of_seeds = sum((value_SC[s].mean() - mean) ** 2 for s in range(n_seeds)) / (n_seeds - 1) / n_seeds
    of_clusters = sum((value_SC[:, c].mean() - mean) ** 2 for c in range(n_clusters)) / (n_clusters - 1) / n_clusters
    residual = sum(
        (value_SC[s, c] - value_SC[s].mean() - value_SC[:, c].mean() + mean) ** 2
        for s in range(n_seeds)
        for c in range(n_clusters)
    )
    return of_seeds, of_clusters, residual / ((n_seeds - 1) * (n_clusters - 1)) / (n_seeds * n_clusters)


def test_by_hand():
    """Seeds -2, -1, 0, 1, 2 and rows 1, 1, 1 + sqrt(4.5), added: no residual.

    V_s = 2.5 / 5 and V_c = 1.5 / 3, so the variance is 1. The seeds' share is 0.5 / (0.5 + 0.5 * 2 / 4) = 2/3, and
    1 / df = 2/3 / 4 + 1/3 / 2 = 1/3.
    """
    found = crossed_mean(np.arange(-2.0, 3)[:, None] + np.array([1, 1, 1 + 4.5**0.5]))
    mean = 1 + 4.5**0.5 / 3
    assert found.mean == pytest.approx(mean)
    assert found.standard_error == pytest.approx(1)
    assert found.degrees_of_freedom == pytest.approx(3)
    assert found.p_value == pytest.approx(2 * stats.t.sf(mean, 3))
    half_width = stats.t.ppf(0.975, 3)
    assert found.interval() == pytest.approx((mean - half_width, mean + half_width))


@given(st.integers(2, 6), st.integers(2, 12), st.integers(0, 1000))
def test_variance_against_loops_and_never_below_one_sources(n_seeds: int, n_clusters: int, seed: int):
    value_SC = np.random.default_rng(seed).normal(size=(n_seeds, n_clusters))
    of_seeds, of_clusters, of_residual = slow_crossed_variance(value_SC)
    found = crossed_mean(value_SC)
    components = max(0, of_seeds - of_residual) + max(0, of_clusters - of_residual) + of_residual
    assert found.standard_error**2 == pytest.approx(components)
    assert found.standard_error**2 >= max(of_seeds, of_clusters, of_residual) * (1 - 1e-9)
    least, most = sorted((n_seeds - 1, n_clusters - 1))
    assert least - 1e-9 <= found.degrees_of_freedom <= most + 1e-9


def test_rows_that_all_agree_leave_the_t_test_over_seeds():
    """Every row has its seed's difference: the row adds nothing, and S - 1 degrees of freedom remain."""
    difference_S = np.array([0.2, 0.1, 0.3, 0.0, 0.4])
    found = crossed_mean(np.repeat(difference_S[:, None], 8, axis=1))
    expected = stats.ttest_1samp(difference_S, 0)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_seeds_that_all_agree_leave_the_t_test_over_rows():
    difference_R = np.array([1.0, 0, 0, 1, -1, 1, 1, 0])
    found = crossed_mean(np.repeat(difference_R[None], 5, axis=0))
    assert found.p_value == pytest.approx(stats.ttest_1samp(difference_R, 0).pvalue)


# --- clusters


def test_clusters_by_hand():
    """The example of the docstring, and a second seed without a hit."""
    found = cluster_means(np.array([[1.0, 1, 0], [0, 0, 0]]), ["a", "a", "b"])
    assert found == pytest.approx(np.array([[10 / 9, 2 / 9], [0, 0]]))
    assert cluster_totals(np.array([[1.0, 2, 4]]), ["b", "a", "b"]) == pytest.approx(np.array([[5, 2]]))


def test_equal_clusters_are_their_means_and_single_rows_themselves():
    difference_SR = np.random.default_rng(0).normal(size=(3, 6))
    means = cluster_means(difference_SR, [0, 1, 2, 0, 1, 2])
    assert means == pytest.approx(difference_SR.reshape(3, 2, 3).mean(axis=1))
    assert cluster_means(difference_SR, list("abcdef")) == pytest.approx(difference_SR)
    assert cluster_means(difference_SR, None) is difference_SR


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.integers(0, 100))
def test_clusters_keep_each_seeds_mean_over_rows(clusters: list[int], seed: int):
    difference_SR = np.random.default_rng(seed).normal(size=(4, len(clusters)))
    assert cluster_means(difference_SR, clusters).mean(axis=1) == pytest.approx(difference_SR.mean(axis=1))


def test_copied_rows_say_no_more_than_one():
    """Each row three times: as clusters the same as once; as rows of their own, certainty from nothing."""
    difference_SR = np.random.default_rng(0).integers(-1, 2, (5, 40)).astype(float)
    copied = np.repeat(difference_SR, 3, axis=1)
    once = crossed_mean(difference_SR)
    clustered = crossed_mean(cluster_means(copied, np.repeat(np.arange(40), 3).tolist()))
    assert clustered.standard_error == pytest.approx(once.standard_error)
    assert crossed_mean(copied).standard_error < once.standard_error


def test_effective_clusters_by_hand():
    """2500 / (10 + 1600); equal clusters count as they are."""
    assert effective_clusters([*range(10), *["large"] * 40], 50) == pytest.approx(2500 / 1610)
    assert effective_clusters(["a", "a", "b", "b", "c", "c"], 6) == 3
    assert effective_clusters(None, 7) == 7


def test_few_effective_clusters_leave_few_degrees_of_freedom():
    """Seeds that agree, so that rows are all the variance: E - 1."""
    value_SC = np.repeat(np.random.default_rng(0).normal(size=(1, 11)), 5, axis=0)
    assert crossed_mean(value_SC).degrees_of_freedom == pytest.approx(10)
    assert crossed_mean(value_SC, 1.6).degrees_of_freedom == pytest.approx(0.6)


# --- power


@pytest.mark.parametrize("degrees_of_freedom", [4.0, 9.5, 200.0])
@pytest.mark.parametrize("level", [0.05, 0.05 / 8])
def test_the_detectable_difference_is_found_with_80_percent(degrees_of_freedom: float, level: float):
    """By scipy's noncentral t; the other tail has no weight."""
    crossed = CrossedMean(0.0, 0.02, degrees_of_freedom)
    noncentrality = crossed.detectable_difference(level) / 0.02
    critical = stats.t.ppf(1 - level / 2, degrees_of_freedom)
    assert stats.nct.sf(critical, degrees_of_freedom, noncentrality) == pytest.approx(0.8, abs=1e-6)
    assert stats.nct.cdf(-critical, degrees_of_freedom, noncentrality) < 1e-4


def test_the_detectable_difference_is_about_2_8_standard_errors_with_many_degrees_of_freedom():
    """1.96 + 0.84."""
    assert CrossedMean(0.0, 1.0, 1e6).detectable_difference(0.05) == pytest.approx(1.960 + 0.8416, abs=1e-3)


def test_below_one_degree_of_freedom_no_difference_is_found():
    """At one: by scipy's noncentral t, 16.33 standard errors."""
    assert CrossedMean(0.0, 0.02, 1.0).detectable_difference(0.05) == pytest.approx(0.02 * 16.334, rel=1e-4)
    assert CrossedMean(0.0, 0.02, 0.26).detectable_difference(0.05) == math.inf
