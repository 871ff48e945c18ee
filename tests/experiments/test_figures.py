"""The figure of scores by trained parameters: drawn where they differ, and of finished arms alone."""

import pytest

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


def segments(svg: str) -> list[int]:
    """How many segments each solid coloured line of a figure has."""
    paths = [part.split('"')[0] for part in svg.split('<path d="')[1:] if "stroke-width: 1.2" in part.split("/>")[0]]
    return [path.count("L ") for path in paths if "L " in path]
