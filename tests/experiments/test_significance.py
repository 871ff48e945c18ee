"""The statistics of a comparison: scipy on known cases, slow definitions, and error rates in simulation.

The simulations have fixed seeds; their tolerances are three Monte-Carlo standard errors.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llm_jepa.experiments.significance import (
    Interval,
    PairedDifference,
    Verdict,
    holm,
    paired_difference,
    row_interval,
    summarise,
    verdicts,
)

SEEDS = [82, 23, 37, 84, 4]
ARMS = ["alone", "prefix_sg", "info_nce", "tube"]
BASELINE = [0.53, 0.55, 0.52, 0.56, 0.54]
# By hand, minus the baseline, in points: 2, 1, 3, 0, 4.
ARM = [0.55, 0.56, 0.55, 0.56, 0.58]
p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def by_seed(values) -> dict:
    return dict(zip(SEEDS, values, strict=False))


def one_verdict(arm, baseline=BASELINE, n_seeds: int = 5, **options) -> Verdict:
    scores = {"prefix_sg": by_seed(arm), "lm_only": by_seed(baseline)}
    return verdicts(scores, arms=["prefix_sg"], baseline="lm_only", seeds=SEEDS[:n_seeds], **options)["prefix_sg"]


def figures(verdict: Verdict) -> PairedDifference:
    assert verdict.difference is not None
    return verdict.difference


def monte_carlo_error(rate: float, replications: int) -> float:
    return 3 * math.sqrt(rate * (1 - rate) / replications)


# --- one arm


def test_summary_by_hand():
    """Deviations -1, 1, -2, 2, 0 points: variance 10 / 4."""
    summary = summarise(by_seed(BASELINE))
    assert summary.mean == pytest.approx(0.54)
    assert summary.standard_deviation == pytest.approx(0.01 * math.sqrt(2.5))
    assert summary.n_seeds == 5


def test_one_seed_has_no_spread():
    assert summarise({82: 0.5}).standard_deviation is None


# --- paired differences


@pytest.mark.parametrize("n", [2, 5, 9, 30])
@pytest.mark.parametrize("shift", [0.0, 0.01, 0.3])
def test_paired_difference_against_scipy(n: int, shift: float):
    """p value and interval are those of `scipy.stats.ttest_rel`, also far in the tail."""
    draw = np.random.default_rng(n)
    baseline = draw.normal(0.5, 0.03, n)
    arm = baseline + shift + draw.normal(0, 0.01, n)
    expected = stats.ttest_rel(arm, baseline)
    interval = expected.confidence_interval(0.95)
    found = paired_difference(dict(enumerate(arm)), dict(enumerate(baseline)))
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.seed_interval is not None
    assert (found.seed_interval.low, found.seed_interval.high) == pytest.approx((interval.low, interval.high))
    assert found.minimal_detectable_difference == pytest.approx((interval.high - interval.low) / 2)


def test_paired_difference_by_hand():
    """Differences of 2, 1, 3, 0, 4 points: mean 2, variance 2.5, t = 2 / sqrt(2.5 / 5) = 2.828 with 4 degrees."""
    found = paired_difference(by_seed(ARM), by_seed(BASELINE))
    assert found.mean == pytest.approx(0.02)
    assert found.p_value == pytest.approx(0.0474, abs=5e-5)
    assert found.minimal_detectable_difference == pytest.approx(0.01 * 2.7764 * math.sqrt(0.5), rel=1e-4)


def test_pairs_are_made_by_seed_and_not_by_order():
    shuffled = dict(reversed(by_seed(BASELINE).items()))
    assert paired_difference(by_seed(ARM), shuffled).p_value == pytest.approx(0.0474, abs=5e-5)


@pytest.mark.filterwarnings("error")
def test_differences_without_spread():
    """None at all: p = 1. Constant: the sign-flip test, 2 of the 2^5 sign patterns are as extreme. No interval."""
    # 0.1 + 0.2 is not 0.3 in floating point, nor is 0.7 - 0.6 the same as 0.2 - 0.1.
    none = paired_difference(by_seed([0.3] * 5), by_seed([0.1 + 0.2, 0.3, 0.3, 0.3, 0.3]))
    assert (none.p_value, none.seed_interval, none.minimal_detectable_difference) == (1.0, None, None)
    constant = paired_difference(by_seed([0.7, 0.2, 0.4, 0.9, 0.3]), by_seed([0.6, 0.1, 0.3, 0.8, 0.2]))
    assert (constant.p_value, constant.seed_interval) == (2 / 2**5, None)
    assert paired_difference({1: 0.5}, {1: 0.4}).p_value is None


@pytest.mark.filterwarnings("error")
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6))
def test_turning_arm_and_baseline_round_changes_the_sign_alone(pairs: list[tuple[float, float]]):
    """And p is a probability, whatever the scores."""
    arm, baseline = ({seed: pair[side] for seed, pair in enumerate(pairs)} for side in (0, 1))
    forth, back = paired_difference(arm, baseline), paired_difference(baseline, arm)
    assert forth.p_value is not None
    assert 0 <= forth.p_value <= 1
    assert back.p_value == pytest.approx(forth.p_value)
    assert back.mean == pytest.approx(-forth.mean)


def test_unpaired_seeds_are_refused():
    with pytest.raises(ValueError, match=r"the arm has \[1, 2\] and the baseline \[1, 3\]"):
        paired_difference({1: 0.5, 2: 0.5}, {1: 0.5, 3: 0.5})


# --- test rows


def test_row_interval_against_scipy_and_a_bootstrap():
    """One seed: the paired t interval over rows; five: a bootstrap of the seed-averaged differences comes near it."""
    draw = np.random.default_rng(1)
    arm_SR, baseline_SR = draw.random((5, 300)) < 0.6, draw.random((5, 300)) < 0.5
    single = row_interval(arm_SR[:1], baseline_SR[:1])
    expected = stats.ttest_rel(arm_SR[0].astype(float), baseline_SR[0].astype(float)).confidence_interval(0.95)
    assert single is not None
    assert (single.low, single.high) == pytest.approx((expected.low, expected.high))

    difference_R = (arm_SR.astype(float) - baseline_SR).mean(axis=0)
    means = difference_R[draw.integers(0, 300, (10_000, 300))].mean(axis=1)
    five = row_interval(arm_SR, baseline_SR)
    assert five is not None
    assert (five.low, five.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.003)


def test_rows_that_all_differ_alike_give_no_interval():
    assert row_interval([[1, 0, 1]], [[1, 0, 1]]) is None


@pytest.mark.parametrize(("arm", "baseline"), [([[1, 0]], [[1, 0, 1]]), ([1, 0], [1, 0])])
def test_rows_of_other_shapes_are_refused(arm: list, baseline: list):
    with pytest.raises(ValueError, match=r"Rows must be \(seeds, rows\)"):
        row_interval(arm, baseline)


# --- Holm


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


# --- verdicts


def test_the_sentence_has_all_figures():
    """Rows: three of ten differ, at one to three of the five seeds each."""
    baseline_SR = np.zeros((5, 10))
    baseline_SR[:, :5] = 1
    arm_SR = baseline_SR.copy()
    arm_SR[0, 5] = arm_SR[:2, 6] = arm_SR[:3, 7] = 1
    rows = {"prefix_sg": by_seed(arm_SR.tolist()), "lm_only": by_seed(baseline_SR.tolist())}
    found = one_verdict(arm_SR.mean(axis=1), baseline_SR.mean(axis=1), rows=rows)
    # Differences over seeds 30, 20, 10, 0, 0 points: sd sqrt(170); over rows 20, 40, 60 and seven 0: sd sqrt(463).
    over_seeds, over_rows = 2.7764 * math.sqrt(170 / 5), 2.2622 * math.sqrt(4160 / 9 / 10)
    p = 2 * stats.t.sf(12 / math.sqrt(170 / 5), 4)
    assert found.sentence == (
        f"prefix_sg: +12.0 points (95 % CI {12 - over_seeds:+.1f} to {12 + over_seeds:+.1f} over 5 seeds; "
        f"{12 - over_rows:+.1f} to {12 + over_rows:+.1f} over 10 test rows; p = {p:.3f} after Holm over 1 arm): "
        f"no difference beyond noise. These seeds can show, before Holm, about {over_seeds:.1f} points or more."
    )
    assert figures(found).n_rows == 10


def test_better_worse_and_a_score_where_less_is_better():
    assert one_verdict(ARM).outcome == "better"
    assert one_verdict(BASELINE, ARM).outcome == "worse"
    assert one_verdict(ARM, higher_is_better=False).outcome == "worse"
    assert one_verdict(BASELINE, ARM, higher_is_better=False).outcome == "better"


def test_holm_takes_back_what_a_single_test_would_say():
    """p = 0.047 alone is 'better'; as the least of four it is not."""
    scores = {arm: by_seed(BASELINE) for arm in [*ARMS, "lm_only"]} | {"tube": by_seed(ARM)}
    found = verdicts(scores, arms=ARMS, baseline="lm_only", seeds=SEEDS)
    assert found["tube"].adjusted_p_value == pytest.approx(4 * 0.0474, abs=2e-4)
    assert {verdict.outcome for verdict in found.values()} == {"no difference beyond noise"}


def test_a_negative_difference_that_rounds_to_zero_has_no_minus():
    arm = [score + step for score, step in zip(BASELINE, [0.001, -0.001, 0.001, -0.001, -0.0001], strict=True)]
    assert one_verdict(arm).sentence.startswith("prefix_sg: +0.0 points")


@pytest.mark.parametrize("n_seeds", [1, 2, 4])
def test_fewer_than_five_seeds_are_too_few(n_seeds: int):
    """However large the difference; the figures are still given."""
    found = one_verdict([0.9, 0.91, 0.92, 0.93, 0.95], n_seeds=n_seeds)
    assert found.outcome == "too few to tell"
    assert figures(found).mean == pytest.approx(np.mean([0.37, 0.36, 0.40, 0.37][:n_seeds]))
    assert (found.adjusted_p_value is None) == (n_seeds == 1)
    assert f"over {n_seeds} seed" in found.sentence


def test_a_constant_difference_is_too_few_to_tell():
    """Five equal differences have p = 1/16; a zero difference is no difference."""
    assert one_verdict([score + 0.2 for score in BASELINE]).outcome == "too few to tell"
    assert one_verdict(BASELINE).outcome == "no difference beyond noise"
    assert "+0.0 points (95 % CI none over 5 seeds; p = 1.000" in one_verdict(BASELINE).sentence


def test_a_missing_seed_is_incomplete_and_has_no_figures():
    scores = {"prefix_sg": by_seed(ARM), "lm_only": by_seed(BASELINE)}
    del scores["prefix_sg"][82]
    found = verdicts(scores, arms=["prefix_sg"], baseline="lm_only", seeds=SEEDS)["prefix_sg"]
    assert found == Verdict("prefix_sg", "lm_only", "incomplete", None, None, 1, (("prefix_sg", 82),))
    assert found.sentence == "prefix_sg: incomplete. Missing: prefix_sg seed 82."


def test_a_missing_arm_still_counts_in_holm():
    """The other arm's p is doubled as declared, so it can only fall once the missing arm comes in."""
    scores = {"tube": by_seed(ARM), "lm_only": by_seed(BASELINE)}
    found = verdicts(scores, arms=["alone", "tube"], baseline="lm_only", seeds=SEEDS)
    assert found["alone"].outcome == "incomplete"
    assert found["alone"].missing == tuple(("alone", seed) for seed in SEEDS)
    assert found["tube"].adjusted_p_value == pytest.approx(2 * 0.0474, abs=1e-4)


def test_a_baseline_that_lacks_a_seed_makes_every_comparison_incomplete():
    scores = {arm: by_seed(ARM) for arm in ARMS} | {"lm_only": by_seed(BASELINE[:4])}
    found = verdicts(scores, arms=ARMS, baseline="lm_only", seeds=SEEDS)
    assert {verdict.outcome for verdict in found.values()} == {"incomplete"}
    assert {verdict.difference for verdict in found.values()} == {None}


def test_missing_rows_are_a_missing_cell():
    rows = {"prefix_sg": {}, "lm_only": by_seed([[0, 1]] * 5)}
    assert one_verdict(ARM, [0.5] * 5, rows=rows).outcome == "incomplete"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_number_names_arm_and_seed(value: float):
    with pytest.raises(ValueError, match="score of arm 'prefix_sg', seed 23"):
        one_verdict([0.5, value, 0.5, 0.5, 0.5])
    rows = {"prefix_sg": by_seed([[0, 1], [0, value]] * 2 + [[0, 1]]), "lm_only": by_seed([[0, 1]] * 5)}
    with pytest.raises(ValueError, match="rows of arm 'prefix_sg', seed 23"):
        one_verdict([0.5] * 5, [0.5] * 5, rows=rows)


def test_rows_of_another_score_or_another_number_are_refused():
    rows = {"prefix_sg": by_seed([[0.0, 1.0]] * 5), "lm_only": by_seed([[0, 1]] * 5)}
    with pytest.raises(ValueError, match=r"arm 'prefix_sg', seed 82 must be its rows' mean; given: 0.75 and 0.5"):
        one_verdict([0.75] * 5, [0.5] * 5, rows=rows)
    rows["prefix_sg"][4] = [0, 1, 0, 1]
    with pytest.raises(ValueError, match="the same test rows"):
        one_verdict([0.5] * 5, [0.5] * 5, rows=rows)


@pytest.mark.parametrize(
    ("arms", "seeds"), [([], [1]), (["a"], []), (["a", "a"], [1]), (["lm_only"], [1]), (["a"], [1, 1])]
)
def test_arms_and_seeds_are_named_once(arms: list[str], seeds: list[int]):
    """A seed counted twice would make noise look certain."""
    with pytest.raises(ValueError, match="each once"):
        verdicts({}, arms=arms, baseline="lm_only", seeds=seeds)


# --- error rates

REPLICATIONS = 4000


def simulated_verdicts(
    n_rows: int | None, shift: float = 0.0, replications: int = REPLICATIONS
) -> list[list[Verdict]]:
    """Four arms and a baseline, normal, sharing each seed's effect; `n_rows` rounds scores to shares of that many."""
    draw = np.random.default_rng(20)
    scores_NAS = 0.6 + draw.normal(0, 0.03, (replications, 1, 5)) + draw.normal(0, 0.02, (replications, 5, 5))
    scores_NAS[:, 1:] += shift
    if n_rows is not None:
        scores_NAS = np.round(scores_NAS * n_rows) / n_rows
    names = ["lm_only", *ARMS]
    tables = [dict(zip(names, map(by_seed, scores_AS), strict=True)) for scores_AS in scores_NAS.tolist()]
    return [list(verdicts(scores, arms=ARMS, baseline="lm_only", seeds=SEEDS).values()) for scores in tables]


@pytest.mark.parametrize("n_rows", [None, 200])
def test_false_positives_are_at_their_nominal_level(n_rows: int | None):
    """No arm differs. A family of four names one in at most 5 % of experiments, and would in far more without Holm."""
    families = simulated_verdicts(n_rows)
    p_NA = np.array([[figures(verdict).p_value for verdict in family] for family in families])
    assert (p_NA < 0.05).mean() == pytest.approx(0.05, abs=monte_carlo_error(0.05, REPLICATIONS))
    assert (p_NA < 0.05).any(axis=1).mean() > 0.1
    named = [any(verdict.outcome in ("better", "worse") for verdict in family) for family in families]
    assert 0.025 < np.mean(named) <= 0.05 + monte_carlo_error(0.05, REPLICATIONS)


def test_a_large_difference_is_found():
    """Six standard deviations of a cell: nearly always 'better', never 'worse'."""
    families = simulated_verdicts(None, shift=0.12, replications=500)
    outcomes = [verdict.outcome for family in families for verdict in family]
    assert outcomes.count("better") / len(outcomes) > 0.95
    assert "worse" not in outcomes


def test_the_interval_over_seeds_covers_the_true_difference():
    """Nominal 95 %: five seeds, a true difference of 3 points."""
    intervals = [figures(family[0]).seed_interval for family in simulated_verdicts(None, shift=0.03)]
    covered = [interval is not None and interval.low <= 0.03 <= interval.high for interval in intervals]
    assert np.mean(covered) == pytest.approx(0.95, abs=monte_carlo_error(0.95, REPLICATIONS))


@pytest.mark.parametrize("skill", [0.0, 1.2], ids=["half right", "most right"])
def test_the_interval_over_rows_covers_the_true_difference(skill: float):
    """Nominal 95 %: binary outcomes of 200 rows drawn anew, five trained models an arm, rows of unequal difficulty.

    Row r is right at seed s if `skill_s + ease_r + luck_sr > 0`, both normal: a chance of Phi(skill_s / sqrt(2)).
    """
    draw = np.random.default_rng(30)
    skill_AS = skill + draw.normal(0, 0.1, (2, 5)) + [[0.15], [0.0]]
    truth = np.subtract(*stats.norm.cdf(skill_AS / math.sqrt(2)).mean(axis=1))
    covered = []
    for _ in range(REPLICATIONS):
        latent_ASR = skill_AS[..., None] + draw.normal(size=200) + draw.normal(size=(2, 5, 200))
        interval = row_interval(*(latent_ASR > 0))
        assert isinstance(interval, Interval)
        covered.append(interval.low <= truth <= interval.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=monte_carlo_error(0.95, REPLICATIONS))
