"""Verdicts by a threshold: one family with those by the score, and what would be found."""

import pytest

from llm_jepa.experiments.significance import PairedDifference, Reach, first_reach, holm, reach_times, verdicts
from tests.experiments.significance.scored_rows import ARM, ARMS, BASELINE, SEEDS, contrast, rows_of


def reaches(*times: float | None) -> dict[int, Reach]:
    return {seed: Reach(time, 100.0) for seed, time in zip(SEEDS, times, strict=True)}


def test_claims_by_a_threshold_join_the_family():
    """Five of five seeds against none: p = 2 / 252 for the share and for the time, corrected for three."""
    found = verdicts(
        [contrast()],
        {"prefix_sg": rows_of(ARM), "lm_only": rows_of(BASELINE)},
        SEEDS,
        reaches={"equal_steps": {"prefix_sg": reaches(10, 20, 30, 40, 50), "lm_only": reaches(*[None] * 5)}},
    )
    assert [verdict.measure for verdict in found] == ["score", "share of seeds", "time"]
    assert {verdict.n_comparisons for verdict in found} == {3}
    assert [verdict.outcome for verdict in found] == ["better"] * 3
    assert isinstance(found[0].difference, PairedDifference)
    p_values = [found[0].difference.p_value or 0.0, 2 / 252, 2 / 252]
    assert [verdict.adjusted_p_value for verdict in found] == pytest.approx(holm(p_values))
    assert "5 of 5 seeds" in found[1].sentence
    assert "p = 0.016 after Holm over 3 comparisons: better." in found[2].sentence


def test_a_threshold_that_more_seeds_would_have_to_decide_is_too_few_to_tell():
    """Among four comparisons with three claims each, 2 / 252 x 12 is above 5 %: nothing could be significant."""
    names = [*ARMS, "lm_only"]
    budgets = ("equal_steps", "equal_flops")
    found = verdicts(
        [contrast(arm, budget=budget) for budget in budgets for arm in ARMS],
        {name: rows_of(BASELINE) for name in names},
        SEEDS,
        reaches={budget: {name: reaches(*[None] * 5) for name in names} for budget in budgets},
    )
    assert {verdict.n_comparisons for verdict in found} == {4 + 4 + 4}  # the same at both budgets
    assert {verdict.outcome for verdict in found[8:]} == {"too few to tell"}
    assert found[8].sentence.endswith("No number of the arm's 5 seeds would be found to differ.")


@pytest.mark.parametrize(
    ("baseline_hits", "outcome", "would_be_found"),
    [
        (0, "no difference found", "A difference would be found only with all of the arm's 5 seeds"),
        (3, "too few to tell", "No number of the arm's 5 seeds would be found to differ"),
        (5, "no difference found", "A difference would be found only with none of the arm's 5 seeds"),
    ],
)
def test_a_share_says_how_many_seeds_would_be_found_to_differ(baseline_hits, outcome, would_be_found):
    """Three comparisons: 5 to 0 has p = 2 / 252 and passes 0.05 / 3; 4 to 0 has 12 / 252, and 5 to 3 more."""
    found = verdicts(
        [contrast()],
        {"prefix_sg": rows_of(BASELINE), "lm_only": rows_of(BASELINE)},
        SEEDS,
        reaches={
            "equal_steps": {
                "prefix_sg": reaches(90, 90, *[None] * 3),
                "lm_only": reaches(*[80] * baseline_hits, *[None] * (5 - baseline_hits)),
            }
        },
    )
    assert found[1].outcome == outcome
    assert found[1].sentence.endswith(f": {outcome}. {would_be_found}.")
    if baseline_hits == 0:
        assert found[2].outcome == outcome
        would = "A difference would be found with all of the arm's 5 seeds there before the baseline's first."
        assert found[2].sentence.endswith(would)


def test_less_is_worse_for_a_threshold_whatever_the_score_wants():
    found = verdicts(
        [contrast()],
        {"prefix_sg": rows_of(ARM), "lm_only": rows_of(BASELINE)},
        SEEDS,
        higher_is_better=False,
        reaches={"equal_steps": {"prefix_sg": reaches(*[None] * 5), "lm_only": reaches(10, 20, 30, 40, 50)}},
    )
    assert [verdict.outcome for verdict in found] == ["worse"] * 3


def test_a_run_without_a_curve_makes_its_threshold_incomplete():
    found = verdicts(
        [contrast()],
        {"prefix_sg": rows_of(ARM), "lm_only": rows_of(BASELINE)},
        SEEDS,
        reaches={"equal_steps": {"lm_only": reaches(10, 20, 30, 40, 50)}},
    )
    assert [verdict.outcome for verdict in found] == ["better", "incomplete", "incomplete"]
    assert found[1].missing == tuple(("prefix_sg", seed) for seed in SEEDS)


def test_the_same_runs_at_both_budgets_have_one_verdict_by_the_threshold():
    """A step costs the arm 1.0003 FLOPs, so both budgets compare the same runs. All five arms are there at 20 steps
    and all baselines at 30: in steps p = 2 / 252, in FLOPs an evaluation is early or late by a whole interval."""

    def evaluated(reached_at: int, flops_per_step: float) -> dict[int, Reach]:
        curve = [(step * flops_per_step, float(step >= reached_at)) for step in range(10, 60, 10)]
        return dict.fromkeys(SEEDS, first_reach(curve, 1.0))

    steps, flops = ({"prefix_sg": evaluated(20, cost), "lm_only": evaluated(30, 1)} for cost in (1, 1.0003))
    found = verdicts(
        [contrast(), contrast(budget="equal_flops")],
        {"prefix_sg": rows_of(BASELINE), "lm_only": rows_of(BASELINE)},
        SEEDS,
        reaches={"equal_steps": steps, "equal_flops": flops},
    )
    assert reach_times(flops["prefix_sg"], flops["lm_only"]).p_value == 1
    times = [verdict for verdict in found if verdict.measure == "time"]
    assert [time.budget for time in times] == ["equal_steps", "equal_flops"]
    assert [time.outcome for time in times] == ["better"] * 2
    assert [time.adjusted_p_value for time in times] == pytest.approx([3 * 2 / 252] * 2)
