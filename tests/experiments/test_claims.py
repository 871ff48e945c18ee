"""What a report says of every contrast and score, from the results of cells."""

import json

import numpy as np
import pytest

from llm_jepa.experiments.claims import compare_results, contrast_key, contrasts_of, curve_of, summary_json
from llm_jepa.experiments.significance import Contrast, Reach
from llm_jepa.scoring.wilson import wilson_interval

SEEDS = [1, 2, 3, 4, 5]
BASELINES = {"equal_steps": {"jepa": "lm_only"}, "equal_flops": {"jepa": "lm_only-20-steps"}}


def result(share: float, seed: int) -> dict:
    """A cell with 100 rows, about `share` of them right by `strict`, and all stopped."""
    strict = (np.random.default_rng(seed).random(100) < share).tolist()
    return {
        "scores": {"strict": sum(strict) / 100, "stopped": 1.0},
        "rows": {"strict": strict, "stopped": [True] * 100},
        "clusters": list(range(100)),
    }


@pytest.fixture(scope="module")
def results() -> dict:
    shares = {"jepa": 0.9, "lm_only": 0.1, "lm_only-20-steps": 0.0}
    return {
        name: {seed: result(share, 10 * number + seed) for seed in SEEDS}
        for number, (name, share) in enumerate(shares.items())
    }


def compared(results: dict, primary_score: str = "strict", **options) -> tuple:
    return compare_results(
        contrasts_of(BASELINES),
        results,
        baseline="lm_only",
        names=["strict", "stopped"],
        primary_score=primary_score,
        seeds=SEEDS,
        **options,
    )


def test_the_primary_score_alone_claims_and_both_budgets_are_one_family(results):
    tables, by_threshold = compared(results)
    for budget in BASELINES:
        claim, description = tables[budget]["strict"]["jepa"], tables[budget]["stopped"]["jepa"]
        assert (claim["outcome"], claim["n_comparisons"]) == ("better", 2)
        assert (description["outcome"], description["adjusted_p_value"]) == ("descriptive", None)
        assert "better" in claim["sentence"]
    assert by_threshold == {}
    assert json.loads(json.dumps(tables))["equal_flops"]["stopped"]["jepa"]["sentence"] == description["sentence"]
    assert compared(results, "stopped")[0]["equal_steps"]["strict"]["jepa"]["outcome"] == "descriptive"


def test_the_last_step_counts_once_by_the_final_evaluation():
    result = {
        "curve": [{"step": step, "scores": {"strict": step / 10}} for step in (2, 4)],
        "training": {"steps": 4},
        "scores": {"strict": 0.3},
    }
    assert curve_of(result, "strict") == [(2, 0.2), (4, 0.3)]


def test_claims_by_a_threshold_are_apart(results):
    reaches = {
        budget: {name: {seed: Reach(float(seed), 9.0) for seed in SEEDS} for name in results} for budget in BASELINES
    }
    tables, by_threshold = compared(results, reaches=reaches)
    found = [(measure, budget) for measure, by_budget in by_threshold.items() for budget in by_budget]
    assert found == [(measure, budget) for measure in ("share of seeds", "time") for budget in BASELINES]
    assert by_threshold["time"]["equal_flops"]["jepa"]["baseline"] == "lm_only-20-steps"
    assert tables["equal_steps"]["strict"]["jepa"]["n_comparisons"] == 6


def test_a_control_is_a_baseline_too_and_each_contrast_is_one_of_the_family(results):
    """`jepa` against LM only and against a control, the control against LM only; no schedule is longer but one."""
    baselines = {
        "equal_steps": {"jepa": ["lm_only", "control"], "control": "lm_only"},
        "equal_flops": {"jepa": ["lm_only-20-steps", "control"], "control": "lm_only"},
    }
    contrasts = contrasts_of(baselines)
    reaches = {budget: {} for budget in baselines}
    tables, by_threshold = compare_results(
        contrasts,
        results | {"control": results["jepa"]},
        baseline="lm_only",
        names=["strict", "stopped"],
        primary_score="strict",
        seeds=SEEDS,
        reaches=reaches,
    )
    keys = ["jepa", "jepa against control", "control"]
    for budget in baselines:
        assert list(tables[budget]["strict"]) == list(tables[budget]["stopped"]) == keys
        assert list(by_threshold["time"][budget]) == keys
    verdict = tables["equal_flops"]["strict"]["jepa against control"]
    assert (verdict["arm"], verdict["baseline"], verdict["difference"]["mean"]) == ("jepa", "control", 0)
    assert tables["equal_steps"]["strict"]["jepa"]["outcome"] == "better"
    assert verdict["n_comparisons"] == 4 + 4 + 4  # two are the same at both budgets


@pytest.mark.parametrize(
    ("baseline", "key"),
    [
        ("lm_only", "jepa"),
        ("lm_only-20-steps", "jepa"),
        ("control", "jepa against control"),
        ("control-30-steps", "jepa against control"),
    ],
)
def test_another_baseline_than_the_experiments_is_named_by_its_arm_whatever_its_schedule(baseline, key):
    """It may be the arm's only one, as `compared_with` allows."""
    assert contrast_key(Contrast("jepa", baseline, "equal_flops"), "lm_only") == key


def test_none_right_is_not_shown_as_certain(results):
    """0 of 100 at each of five seeds: 0 to 3.7 %, by the rows; no standard deviation claims more."""
    summary = summary_json(results["lm_only-20-steps"], "strict")
    assert (summary["mean"], summary["standard_deviation"]) == (0, 0)
    assert summary["interval"] == pytest.approx((0, 0.036994), abs=1e-6)
    in_clusters = {1: results["lm_only-20-steps"][1] | {"clusters": [row // 5 for row in range(100)]}}
    assert summary_json(in_clusters, "strict")["interval"] == pytest.approx(wilson_interval(0, 20))


def test_seeds_that_differ_widen_the_interval_of_a_score():
    """Shares of 0.1 to 0.9 over seeds: the rows alone would give 0.4 to 0.6. A row that is not scored is left out."""
    found = {seed: result(0.1 + 0.2 * seed, seed) for seed in range(5)}
    low, high = summary_json(found, "strict")["interval"]
    assert low < 0.25
    assert high > 0.75
    by_rows = wilson_interval(50, 100)
    narrow = summary_json({0: found[2]}, "strict")["interval"]
    assert narrow[1] - narrow[0] == pytest.approx(by_rows[1] - by_rows[0], rel=0.05)
    found[0]["rows"]["strict"][7] = None
    assert summary_json({0: found[0]}, "strict")["interval"][0] >= 0
