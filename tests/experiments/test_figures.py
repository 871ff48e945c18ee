"""Figures of a report: scores by trained parameters, and what happened along the training."""

import re

import pytest

from llm_jepa.experiments.curve_figures import loss_figure, score_figure
from llm_jepa.experiments.figures import parameters_figure


def report_of(parameters: dict[str, int | None], unfinished: str = "") -> dict:
    score = {"by_seed": {"1": 0.5, "2": 0.7}, "mean": 0.6}
    return {
        "experiment": {"primary_score": "accuracy"},
        "arms": {
            arm: {
                "settings": {"predictor_layers": place},
                "cost": {} if count is None else {"trained_parameters": count},
            }
            for place, (arm, count) in enumerate(parameters.items())
        },
        "series": {arm: {"scores": {} if arm == unfinished else {"accuracy": score}} for arm in parameters},
    }


@pytest.mark.parametrize(
    ("parameters", "unfinished"),
    [
        ({"short": 10**6, "long": 10**6}, ""),
        ({"short": 10**6, "long": 2 * 10**6}, "long"),
        ({"short": None, "long": None}, ""),
    ],
    ids=["equal", "one is finished", "a report of an earlier version"],
)
def test_there_is_no_figure_where_there_is_nothing_to_compare(parameters, unfinished):
    assert parameters_figure(report_of(parameters, unfinished)) is None


def test_arms_that_differ_in_depth_alone_are_one_curve():
    """Three depths are joined by one line of three points; an arm that differs otherwise stands for itself."""
    depths = report_of({"two": 2 * 10**6, "four": 4 * 10**6, "eight": 8 * 10**6})
    joined = parameters_figure(depths)
    depths["arms"]["four"]["settings"]["inputs"] = "question"
    apart = parameters_figure(depths)
    assert all(f">{arm}<" in joined and f">{arm}<" in apart for arm in ("two", "four", "eight"))
    assert "trained parameters, millions" in joined
    assert segments(joined) == [2]
    assert segments(apart) == [1]


def test_names_of_two_curves_stand_on_two_sides_of_their_points():
    """Two arms of one size and score would cover each other's name."""
    pair = report_of({"lm_only": 2 * 10**6, "tube": 2 * 10**6, "small": 10**6})
    pair["arms"]["tube"]["settings"]["jepa_objective"] = "tube"
    svg = parameters_figure(pair)
    anchors = {name: re.search(rf'<text style="([^"]*)"[^>]*>{name}<', svg)[1] for name in ("lm_only", "tube")}
    assert "text-anchor: end" in anchors["tube"]
    assert "text-anchor: start" in anchors["lm_only"]


def segments(svg: str) -> list[int]:
    """How many segments each solid coloured line of a figure has."""
    paths = [part.split('"')[0] for part in svg.split('<path d="')[1:] if "stroke-width: 1.2" in part.split("/>")[0]]
    return [path.count("L ") for path in paths if "L " in path]


def report_of_curves(n_seeds: dict[str, int], settings: dict[str, dict], kind: str = "text") -> dict:
    curve = [{"step": step, "scores": {"strict": step / 10}} for step in (1, 2)]
    log = [{"step": step, "loss": 1 / step} for step in (1, 2)]
    return {
        "experiment": {"primary_score": "strict", "threshold": 0.9, "kind": kind},
        "arms": {arm: {"settings": settings.get(arm, {}), "cost": {"rows_per_step": 4}} for arm in n_seeds},
        "series": {
            arm: {"curve": dict.fromkeys(range(number), curve), "log": dict.fromkeys(range(number), log)}
            for arm, number in n_seeds.items()
        },
    }


def test_curves_are_of_arms_with_all_seeds_and_the_threshold_is_named():
    """The mean of an arm that lacks seeds is not over the same seeds."""
    svg = score_figure(report_of_curves({"lm_only": 3, "pair": 3, "tube": 2}, {}), "rows")
    assert ">pair<" in svg
    assert ">tube<" not in svg
    assert ">threshold 90 %<" in svg


@pytest.mark.parametrize(
    ("kind", "settings", "is_drawn"),
    [
        ("vision", {"answer_form": "tokens"}, False),
        ("vision", {"jepa_loss": "cosine"}, False),
        ("vision", {"predictor_layers": 4}, True),
        ("text", {"jepa_loss": "info_nce"}, True),  # next-token loss in every arm
    ],
)
def test_losses_that_cannot_be_compared_are_not_drawn(kind, settings, is_drawn):
    report = report_of_curves({"vl_jepa": 2, "other": 2}, {"other": settings}, kind)
    assert (loss_figure(report) is not None) == is_drawn
