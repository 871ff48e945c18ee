"""The summary of an arm by hand; Holm's correction against its slow definition."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.experiments.significance import effective_rows, holm, summarise
from llm_jepa.scoring import wilson_interval

p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_summary_by_hand():
    """Deviations -1, 1, -2, 2, 0 points: variance 10 / 4."""
    summary = summarise(dict(enumerate([0.53, 0.55, 0.52, 0.56, 0.54])))
    assert summary.mean == pytest.approx(0.54)
    assert summary.standard_deviation == pytest.approx(0.01 * math.sqrt(2.5))
    assert summary.n_seeds == 5


def test_one_seed_has_no_spread():
    assert summarise({82: 0.5}).standard_deviation is None


def test_four_seeds_right_or_wrong_throughout_are_hardly_more_than_one_row():
    """Seeds 1 1 0 0, all rows alike: variance 1/12 at 3 degrees of freedom, t = 3.1824; rows alone would say 100."""
    rows_SR = [[share] * 100 for share in (1, 1, 0, 0)]
    expected = 0.25 / (1 / 12 * (3.18245 / 1.95996) ** 2)
    assert effective_rows(rows_SR, range(100)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("rows_SR", "clusters", "expected"),
    [
        ([[0.0] * 6] * 5, range(6), 6),
        ([[1, 0, 1, 1, 0, 0]], range(6), 6),
        ([[1, 0, 1, 1, 0, 0]], [0, 0, 0, 1, 1, 1], 2),
        ([[1, 0, 1, 1, 0, 0]] * 2, [0] * 6, 1),
    ],
    ids=["none right", "one seed", "one seed, two clusters", "one cluster"],
)
def test_without_spread_over_seeds_the_rows_count(rows_SR, clusters, expected):
    assert effective_rows(rows_SR, clusters) == pytest.approx(expected)


def test_a_cluster_of_all_rows_but_two_leaves_an_interval_from_0_to_1():
    """2,002 rows: 1.002 effective clusters, so that t is beyond 1e150."""
    rows_SR = [[1, 0] * 1000 + [seed % 2, 1] for seed in range(5)]
    count = effective_rows(rows_SR, [0] * 2000 + [1, 2])
    assert count == pytest.approx(0, abs=1e-6)
    assert wilson_interval(count / 2, count) == pytest.approx((0, 1), abs=1e-6)


@pytest.mark.parametrize("scores", [{}, {82: math.nan}, {82: 0.5, 23: math.inf}])
def test_a_summary_of_what_is_no_number_is_refused(scores: dict):
    with pytest.raises(ValueError, match="finite numbers, at least one"):
        summarise(scores)


def slow_holm(p_values: list[float]) -> list[float]:
    """The definition: the least level at which the step-down procedure rejects, tried at every level it can be."""

    def rejected(level: float) -> set[int]:
        found: set[int] = set()
        for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if (len(p_values) - rank) * p_values[index] > level:
                break
            found.add(index)
        return found

    levels = sorted({factor * p for p in p_values for factor in range(1, len(p_values) + 1)})
    return [min(1.0, next(level for level in levels if i in rejected(level))) for i in range(len(p_values))]


def test_holm_by_hand():
    """4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04 lifted to 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.03]) == [0.03]
    assert holm([0.6, 0.5]) == [1.0, 1.0]


@given(p_lists)
def test_holm_is_the_least_level_of_rejection(p_values: list[float]):
    assert holm(p_values) == pytest.approx(slow_holm(p_values))


@given(p_lists, st.randoms(use_true_random=False))
def test_holm_keeps_order_and_bounds(p_values: list[float], random):
    """p <= adjusted <= min(1, Bonferroni); a smaller p never gets a larger value; permuting goes through."""
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, len(p_values) * p)
    in_order = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert all(first <= second for first, second in pairwise(in_order))
    order = list(range(len(p_values)))
    random.shuffle(order)
    assert holm([p_values[i] for i in order]) == [adjusted[i] for i in order]


@given(p_lists, st.data())
def test_holm_only_falls_when_one_p_falls(p_values: list[float], data):
    """Why a missing arm counted as p = 1 can never make another's verdict too bold."""
    index = data.draw(st.integers(0, len(p_values) - 1))
    lowered = [*p_values[:index], data.draw(st.floats(0, p_values[index])), *p_values[index + 1 :]]
    assert all(new <= old for new, old in zip(holm(lowered), holm(p_values), strict=True))


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_holm_refuses_what_is_no_p_value(p: float):
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, p])
