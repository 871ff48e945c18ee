"""Bimodal outcomes: Fisher's exact test and the log-rank test against scipy, brute force and by hand."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from llm_jepa.experiments.significance import Reach, first_reach, reach_times, reached_shares, threshold, time_in_words
from llm_jepa.experiments.significance.threshold import at_common_times, deciding_hits, logrank_scores
from llm_jepa.scoring import wilson_interval


def runs(*times: float | None, last_time: float = 100.0) -> dict[int, Reach]:
    return {seed: Reach(time, last_time) for seed, time in enumerate(times)}


def censored(group: dict[int, Reach]) -> stats.CensoredData:
    times = [run.last_time if run.time is None else run.time for run in group.values()]
    return stats.CensoredData.right_censored(times, [run.time is None for run in group.values()])


# --- curves


def test_a_curve_reaches_the_threshold_at_its_first_evaluation_there():
    curve = [(30.0, 0.9), (10.0, 0.2), (20.0, 0.5), (40.0, 0.4)]
    evaluated = (10.0, 20.0, 30.0, 40.0)
    assert first_reach([*curve, (40.0, 0.4)], 0.5) == Reach(20.0, 40.0, "steps", evaluated, (20.0, 30.0))
    assert first_reach(curve, 0.95) == Reach(None, 40.0, "steps", evaluated)
    found = first_reach(curve, 0.2, higher_is_better=False, unit="FLOPs")
    assert found == Reach(10.0, 40.0, "FLOPs", evaluated, (10.0,))


def test_a_run_without_evaluations_is_refused():
    with pytest.raises(ValueError, match="Evaluate it while it trains"):
        first_reach([], 0.5)


# --- share of seeds


def test_five_of_five_against_none_is_the_least_p_value():
    """2 of the 252 divisions of ten runs are as extreme."""
    found = reached_shares(runs(10, 20, 30, 40, 50), runs(None, None, None, None, None))
    assert found.p_value == pytest.approx(2 / 252)
    assert found.p_by_hits == pytest.approx([1, 1, 0.4444, 0.1667, 0.0476, 2 / 252], abs=1e-4)
    assert (found.arm_hits, found.baseline_hits, found.direction) == (5, 0, 1)
    assert found.arm_interval == pytest.approx(wilson_interval(5, 5))
    assert found.baseline_interval == pytest.approx(wilson_interval(0, 5))
    assert found.figures == (
        "5 of 5 seeds (95 % 57 to 100 %) ever reach the threshold, of the baseline 0 of 5 seeds (95 % 0 to 43 %)"
    )


@given(st.integers(0, 6), st.integers(0, 6))
def test_shares_against_the_hypergeometric_distribution(arm_hits: int, baseline_hits: int):
    """Two-sided p: the weight of all tables that are no more likely than the one seen."""
    arm, baseline = ([1.0] * hits + [None] * (6 - hits) for hits in (arm_hits, baseline_hits))
    found = reached_shares(runs(*arm), runs(*baseline))
    weight = stats.hypergeom(12, arm_hits + baseline_hits, 6).pmf(np.arange(7))
    assert found.p_value == pytest.approx(weight[weight <= weight[arm_hits] * (1 + 1e-7)].sum())
    assert found.p_by_hits[arm_hits] == found.p_value


# --- time


def test_scores_by_hand():
    """The example of the docstring: one of four at risk, one of three, one of two; they sum to 0."""
    scores = logrank_scores(np.array([1.0, 2, 3, 3]), np.array([True, True, True, False]))
    assert scores == pytest.approx([3 / 4, 5 / 12, -1 / 12, -13 / 12])
    assert scores.sum() == pytest.approx(0)


@settings(max_examples=20)
@example([1.0, 1.0, 1.0, None, None, None, None, 1.0, 1.0, 1.0])  # a numerator of 0, up to rounding
@given(st.lists(st.sampled_from([None, 1.0, 2.0, 3.0, 5.0]), min_size=10, max_size=10))
def test_the_exact_p_value_is_the_share_of_divisions_as_extreme(times: list[float | None]):
    """All 252 divisions of ten runs, by hand; twice the smaller side."""
    arm, baseline = runs(*times[:5], last_time=5), runs(*times[5:], last_time=5)
    found = reach_times(arm, baseline)
    scores = logrank_scores(
        np.array([5.0 if time is None else time for time in times]), np.array([time is not None for time in times])
    )
    sums = np.array([scores[list(division)].sum() for division in combinations(range(10), 5)])
    seen = scores[:5].sum()
    sides = (sums >= seen - 1e-9).mean(), (sums <= seen + 1e-9).mean()
    assert found.p_value == pytest.approx(min(1.0, 2 * min(sides)))


@pytest.mark.filterwarnings("error")
def test_the_numerator_is_that_of_scipys_logrank():
    """scipy: observed minus expected events over the root of its variance; the sign says who is sooner."""
    draw = np.random.default_rng(0)
    for _ in range(20):
        times = [None if time > 1.5 else float(time) for time in draw.exponential(1, 12)]
        arm, baseline = runs(*times[:6], last_time=1.5), runs(*times[6:], last_time=1.5)
        statistic = stats.logrank(censored(arm), censored(baseline)).statistic
        assert reach_times(arm, baseline).direction == np.sign(statistic)


@pytest.mark.parametrize("n_seeds", [8, 11])
def test_the_order_of_the_seeds_does_not_matter(n_seeds: int):
    """Neither to all 12,870 divisions of twice eight seeds, nor to a sample of those of twice eleven."""
    draw = np.random.default_rng(2)
    arm, baseline = (draw.integers(1, 9, n_seeds).astype(float) + late for late in (0, 1))
    found = {reach_times(runs(*draw.permutation(arm)), runs(*draw.permutation(baseline))).p_value for _ in range(3)}
    assert len(found) == 1


def test_eight_seeds_are_exact_and_a_sample_is_said_and_near(monkeypatch):
    """Six of eight seeds reach it at times of their own, none of the baseline: by hand over all divisions."""
    arm, baseline = runs(30, 40, 50, 50, 60, 60, None, None), runs(*[None] * 8)
    times = np.array([30.0, 40, 50, 50, 60, 60, *[100] * 10])
    scores = logrank_scores(times, times < 100)
    sums = np.array([sum(division) for division in combinations(scores, 8)])
    exact = reach_times(arm, baseline)
    assert exact.p_value == pytest.approx(2 * (sums >= scores[:8].sum() - 1e-9).mean())
    assert exact.n_sampled_divisions is None
    threshold._divisions.cache_clear()
    monkeypatch.setattr(threshold, "_MAX_DIVISIONS", 12_869)
    sampled = reach_times(arm, baseline)
    threshold._divisions.cache_clear()
    assert sampled.p_value == pytest.approx(exact.p_value, rel=0.2)
    assert sampled.figures.endswith("(8 seeds each; p from 99,999 drawn divisions)")


def test_the_exact_p_value_is_near_the_limit_with_many_seeds():
    """Fifteen seeds: a sample of the divisions."""
    draw = np.random.default_rng(1)
    arm, baseline = runs(*draw.exponential(1, 15)), runs(*draw.exponential(2, 15))
    expected = stats.logrank(censored(arm), censored(baseline)).pvalue
    assert reach_times(arm, baseline).p_value == pytest.approx(expected, abs=0.03)


# --- other evaluations, as at equal FLOPs


def evaluated(truths: Sequence[float], interval: float, end: float) -> dict[int, Reach]:
    """Runs that know the answer from their FLOPs of `truths` on, evaluated every `interval` FLOPs and at the end."""
    times = [*np.arange(interval, end, interval).tolist(), end]
    return {
        seed: first_reach([(time, float(time >= truth)) for time in times], 1.0, unit="FLOPs")
        for seed, truth in enumerate(truths)
    }


def test_common_times_by_hand():
    """A step costs 1.5 times as much: evaluations at 15, 30, 45, 60, and at 10, 20, ..., 60.

    The coarse runs stay as they are. A fine one that knows from 18 on is there at 20: surely at 30. From 13 on, there
    at 20 too. From 35 on, there at 40: surely at 45. From 42 on, there at 50: at 60, or at 45 by the next evaluation.
    """
    truths = (18.0, 35.0, 42.0, 99.0)
    coarse, fine = list(evaluated(truths, 15, 60).values()), list(evaluated(truths, 10, 60).values())
    times = {is_late: [run.time for run in at_common_times([*coarse, *fine], is_late=is_late)] for is_late in (0, 1)}
    assert times[1] == [30, 45, 45, None, 30, 45, 60, None]
    assert times[0] == [30, 45, 45, None, 15, 45, 45, None]
    assert {run.last_time for run in at_common_times([*coarse, *fine], is_late=True)} == {60}


def test_ends_within_half_a_step_are_one_and_a_longer_run_is_cut():
    """Coarse runs end at 60: fine ones at 59.5 too, and of those up to 90 only the first 60 count."""
    coarse = list(evaluated([55, 70], 15, 60).values())
    for end in (59.5, 90):
        fine = list(evaluated([58, 70], 10, end).values())
        found = at_common_times([*coarse, *fine], is_late=False)
        assert [(run.time, run.last_time) for run in found] == [(60, 60), (None, 60), (60, 60), (None, 60)]


@pytest.mark.parametrize("cost", [1.5, 1.99, 0.7])
@pytest.mark.parametrize(("low", "high"), [(41, 45), (31, 38), (20, 250)])
def test_other_evaluations_alone_make_no_difference(cost: float, low: float, high: float):
    """Runs of one distribution of FLOPs; a step of the arm has another price. Ten steps lie between evaluations."""
    draw, found = np.random.default_rng(0), []
    for _ in range(100):
        arm, baseline = (evaluated(draw.uniform(low, high, 8), 10 * price, 300) for price in (cost, 1))
        times = reach_times(arm, baseline)
        found.append(times.direction if times.p_value < 0.05 else 0)
    assert found.count(1) <= 6
    assert found.count(-1) <= 6


def test_more_evaluations_are_no_more_chances():
    """Each evaluation passes by chance with 6 %. At half the price the arm has 20 of them, the baseline 10."""
    draw, shares, sooner = np.random.default_rng(0), [], []
    for _ in range(100):
        arm, baseline = (
            {
                seed: first_reach([(cost * step, float(draw.random() < 0.06)) for step in range(1, number + 1)], 1.0)
                for seed in range(8)
            }
            for cost, number in ((5, 20), (10, 10))
        )
        for found, compared in ((shares, reached_shares(arm, baseline)), (sooner, reach_times(arm, baseline))):
            found.append(compared.direction if compared.p_value < 0.05 else 0)
    assert max(found.count(sign) for found in (shares, sooner) for sign in (1, -1)) <= 6


def test_a_share_at_common_times_by_hand():
    """Common times 20, 40, 60. Late and early are the same evaluations of the fine runs: those at 30 do not count."""
    coarse = {seed: first_reach([(20, 0), (40, seed < 2), (60, 0)], 1.0) for seed in range(5)}
    fine = {seed: first_reach([(t, t == (30 if seed < 4 else 40)) for t in range(10, 70, 10)], 1.0) for seed in coarse}
    found = reached_shares(fine, coarse)
    assert (found.arm_hits, found.baseline_hits) == (1, 2)
    assert found.figures.startswith("1 of 5 seeds (95 % 4 to 62 %) reach the threshold at common times, of the")


def test_a_share_has_the_larger_p_value_of_late_and_early():
    """Coarse runs, evaluated at 15 and 30, never pass. Fine ones pass at 20 alone: early at 15, late at no time."""
    coarse = {seed: first_reach([(15, 0), (30, 0)], 1.0) for seed in range(5)}
    fine = {seed: first_reach([(10, 0), (20, 1), (30, 0)], 1.0) for seed in coarse}
    for arm, baseline in ((fine, coarse), (coarse, fine)):
        found = reached_shares(arm, baseline)
        assert (found.arm_hits, found.baseline_hits, found.p_value) == (0, 0, 1.0)


def test_a_difference_of_more_than_an_interval_is_found_at_other_evaluations():
    """All eight arms know from 31 to 38 FLOPs on and are there at 45; the baselines, from 61 on, at 70."""
    arm, baseline = evaluated(range(31, 39), 15, 300), evaluated(range(61, 69), 10, 300)
    found = reach_times(arm, baseline)
    assert (found.direction, found.arm_median, found.baseline_median) == (1, 45, 70)
    assert found.p_value == pytest.approx(2 / 12_870)


def test_sooner_is_better_and_the_medians_are_given():
    found = reach_times(runs(10, 20, 30, 40, 50), runs(60, 70, None, None, None))
    assert (found.arm_median, found.baseline_median, found.direction) == (30.0, None, 1)
    assert found.p_value == pytest.approx(2 / 252)
    assert found.figures == "median time to the threshold 30 steps, of the baseline never (5 seeds each)"
    assert reach_times(runs(60, 70, None, None, None), runs(10, 20, 30, 40, 50)).direction == -1


def test_times_are_given_with_their_unit():
    flops = [time_in_words(time, "FLOPs") for time in (1.469e13, 2e9, 12, 3.1e20)]
    assert flops == ["14.69 TFLOP", "2 GFLOP", "12 FLOP", "310 EFLOP"]
    assert [time_in_words(time, "steps") for time in (5500, None)] == ["5,500 steps", "never"]


@pytest.mark.filterwarnings("error")
def test_where_no_run_reaches_the_threshold_nothing_differs():
    none = runs(None, None, None, None, None)
    assert (reach_times(none, none).p_value, reach_times(none, none).direction) == (1.0, 0)
    assert (reached_shares(none, none).p_value, reached_shares(none, none).direction) == (1.0, 0)


def test_ten_seeds_have_more_to_say_than_five():
    arm, baseline = runs(*range(1, 11)), runs(*[None] * 10)
    found = reach_times(arm, baseline)
    assert found.p_value == found.p_by_hits[10] == pytest.approx(2 / 184_756)
    assert "drawn" not in found.figures
    assert reached_shares(arm, baseline).p_value == pytest.approx(2 / 184_756)


def test_other_seeds_or_units_are_refused():
    with pytest.raises(ValueError, match=r"the arm has \[0, 1\] and the baseline \[0\]"):
        reach_times(runs(1, 2), runs(1))
    with pytest.raises(ValueError, match="one unit; given: FLOPs, steps"):
        reach_times({0: Reach(1.0, 2.0, "FLOPs")}, runs(1))


def test_hits_that_decide_lie_on_both_sides_of_the_baseline():
    """The example of the docstring, and times against a baseline of which all seeds reach it."""
    assert deciding_hits([0.01, 0.2, 1, 0.2, 0.04], 0.05) == (0, 4)
    assert deciding_hits([0.01, 0.2, 1, 0.2, 0.04], 0.02) == (0, None)
    found = reach_times(runs(30, 30, 30, 30, 30), runs(20, 40, 40, 40, 50))
    assert found.p_by_hits[0] == found.p_by_hits[5] == pytest.approx(2 / 252)
    assert deciding_hits(found.p_by_hits, 0.01) == (0, 5)
