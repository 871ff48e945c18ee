"""How often verdicts are wrong and how often they find: the committed table, and a rerun of some of its rows.

The draws have fixed seeds; tolerances are three Monte-Carlo standard errors.
"""

import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import stdtr

from llm_jepa.experiments.significance.crossed import crossed_mean

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))  # where a script finds its neighbours
simulation = importlib.import_module("verdict_simulation")

RESULTS = simulation.read_results()


def monte_carlo_error(rate: float, replications: int) -> float:
    return 3 * math.sqrt(max(rate, 0.01) * (1 - min(rate, 0.99)) / replications)


def test_the_page_shows_the_results_of_every_scenario():
    page = simulation.PAGE.read_text(encoding="utf-8")
    assert [scenario for scenario, _ in RESULTS] == simulation.SCENARIOS
    assert simulation.with_table(page, RESULTS) == page


@pytest.mark.parametrize(
    ("scenario", "rates"), RESULTS, ids=lambda value: repr(value) if "Scen" in repr(value) else ""
)
def test_at_most_5_percent_are_false_and_about_80_are_found(scenario, rates):
    """Near 0 or 100 % right, a gain changes the spread, and less is found than stated."""
    assert rates.family <= 0.05 + monte_carlo_error(0.05, rates.families)
    assert rates.single <= 0.05 + monte_carlo_error(0.05, rates.families)
    if scenario.score != "bimodal" and scenario.true_score > 0.15 and scenario.true_score + rates.stated < 0.85:
        assert 0.7 <= rates.found <= 0.9


def test_seeds_alone_would_be_wrong_more_often():
    """What the crossed standard error is for: under arm x row, up to half of the tests over seeds are significant."""
    under_interaction = [rates.seeds_alone for scenario, rates in RESULTS if scenario.row_interaction >= 0.5]
    assert max(under_interaction) > 0.4
    assert np.mean(under_interaction) > 0.1


@pytest.mark.parametrize(
    "scenario",
    [
        simulation.Scenario(5, 100, 1.0),
        simulation.Scenario(5, 300, 0.5, cluster_sizes=(1, 2, 8)),
        next(scenario for scenario in simulation.SCENARIOS if scenario.score == "bimodal"),
    ],
    ids=["rows", "clusters", "bimodal"],
)
def test_a_small_rerun_agrees_with_the_table(scenario):
    families = 60
    rates = dict(RESULTS)[scenario]
    again = simulation.simulate(scenario, families, seed=1)
    for name in ("family", "found", "seeds_alone", "single"):
        rate = getattr(rates, name)
        both = math.hypot(monte_carlo_error(rate, families), monte_carlo_error(rate, rates.families))
        assert getattr(again, name) == pytest.approx(rate, abs=both), name
    assert again.stated == pytest.approx(rates.stated, rel=0.1)


def test_satterthwaites_degrees_of_freedom_would_be_too_many():
    """Five seeds with 85 % of the variance, 40 rows with the rest, no residual; a level of 0.05 / 8."""
    draw, level, families = np.random.default_rng(0), 0.05 / 8, 5000
    rejected = {"crossed": 0, "satterthwaite": 0}
    for _ in range(families):
        value_SC = draw.normal(0, math.sqrt(0.85 * 5), (5, 1)) + draw.normal(0, math.sqrt(0.15 * 40), (1, 40))
        found = crossed_mean(value_SC)
        share = value_SC.mean(axis=1).var(ddof=1) / 5 / found.standard_error**2
        more = 1 / (share**2 / 4 + (1 - share) ** 2 / 39)
        assert more >= found.degrees_of_freedom
        rejected["crossed"] += found.p_value < level
        rejected["satterthwaite"] += 2 * stdtr(more, -abs(found.mean) / found.standard_error) < level
    assert rejected["crossed"] / families <= level
    assert rejected["satterthwaite"] / families > level + 3 * math.sqrt(level / families)
