"""What a report says of every contrast and score, from the results of cells."""

import json

import numpy as np
import pytest

from llm_jepa.experiments.claims import compare_results, contrasts_of, summary_json
from llm_jepa.experiments.significance import Reach
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
    assert by_threshold == []
    assert json.loads(json.dumps(tables))["equal_steps"]["stopped"]["jepa"]["sentence"] == description["sentence"]
    assert compared(results, "stopped")[0]["equal_steps"]["strict"]["jepa"]["outcome"] == "descriptive"


def test_claims_by_a_threshold_are_apart(results):
    reaches = {
        budget: {name: {seed: Reach(float(seed), 9.0) for seed in SEEDS} for name in results} for budget in BASELINES
    }
    tables, by_threshold = compared(results, reaches=reaches)
    assert [(one["budget"], one["measure"]) for one in by_threshold] == [
        (budget, measure) for measure in ("share of seeds", "time") for budget in BASELINES
    ]
    assert tables["equal_steps"]["strict"]["jepa"]["n_comparisons"] == 6


def test_none_right_is_not_shown_as_certain(results):
    """0 of 100 at each of five seeds: 0 to 3.7 %, by the rows; no standard deviation claims more."""
    summary = summary_json(results["lm_only-20-steps"], "strict")
    assert (summary["mean"], summary["standard_deviation"]) == (0, 0)
    assert summary["interval"] == pytest.approx((0, 0.036994), abs=1e-6)
    in_clusters = {1: results["lm_only-20-steps"][1] | {"clusters": [row // 5 for row in range(100)]}}
    assert summary_json(in_clusters, "strict")["interval"] == pytest.approx(wilson_interval(0, 20))
