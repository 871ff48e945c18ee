"""Draws what happened along the training of an experiment: its losses, and its scores if they were evaluated.

Series with fewer seeds than others are left out, since their mean is not over the same seeds.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.ticker import StrMethodFormatter

from llm_jepa.experiments.figures import COLOURS, LABEL, ZERO, new_axes, series_cost, svg_text, use_log_scale

Points = Mapping[float, float]
Unit = Literal["rows", "FLOPs"]
LOSS_KEYS = ("answer_form", "jepa_loss", "jepa_regulariser", "temperature")
"""VL-JEPA's settings that make its loss another one."""
LABELS: dict[Unit, str] = {"rows": "rows trained on", "FLOPs": "FLOPs of training"}


def loss_figure(report: dict[str, Any]) -> str | None:
    """The training loss of each series over the steps, a thin line for each seed and a thick one for their mean.

    It is the next-token loss where there is one. None where arms have losses that cannot be compared.
    """
    is_vision = report["experiment"].get("kind") == "vision"
    if is_vision and not _have_one_loss(report):
        return None
    lines = {
        name: [_points(log, "lm_loss") or _points(log, "loss") for log in series["log"].values()]
        for name, series in report["series"].items()
    }
    return _figure(lines, "step", "loss" if is_vision else "next-token loss")


def score_figure(report: dict[str, Any], unit: Unit) -> str | None:
    """The primary score of each series by the rows or the FLOPs trained; None if only the end was evaluated."""
    primary = report["experiment"]["primary_score"]
    lines = {}
    for name, series in report["series"].items():
        cost = series_cost(report, name)
        factor = cost["rows_per_step"] * (cost["flops_per_row"] if unit == "FLOPs" else 1)
        lines[name] = [
            {factor * point["step"]: 100 * point["scores"][primary] for point in curve if primary in point["scores"]}
            for curve in series["curve"].values()
        ]
    threshold = report["experiment"]["threshold"]
    return _figure(lines, LABELS[unit], f"{primary}, %", threshold, is_log=unit == "FLOPs")


def mean_line(lines: Sequence[Points]) -> dict[float, float]:
    """The mean over seeds at the points that all of them have."""
    if not lines:
        return {}
    common = sorted(set.intersection(*(set(line) for line in lines)))
    return {x: sum(line[x] for line in lines) / len(lines) for x in common}


def _have_one_loss(report: Mapping[str, Any]) -> bool:
    losses = ([facts["settings"].get(key) for key in LOSS_KEYS] for facts in report["arms"].values())
    return len({json.dumps(loss) for loss in losses}) == 1


def _points(log: Sequence[Mapping[str, Any]], name: str) -> dict[float, float]:
    return {entry["step"]: entry[name] for entry in log if name in entry}


def _figure(
    lines: Mapping[str, Sequence[Points]],
    x_label: str,
    y_label: str,
    threshold: float | None = None,
    is_log: bool = False,
) -> str | None:
    drawn = {name: [line for line in by_seed if line] for name, by_seed in lines.items()}
    most_seeds = max(map(len, drawn.values()), default=0)
    drawn = {name: by_seed for name, by_seed in drawn.items() if len(by_seed) == most_seeds}
    if not most_seeds:
        return None
    colours = dict(zip(lines, itertools.cycle(COLOURS), strict=False))
    figure, axes = new_axes(height_inches=3.2)
    for name, by_seed in drawn.items():
        colour = colours[name]
        for line in by_seed:
            _plot(axes, line, colour, alpha=0.3, linewidth=0.8)
        _plot(axes, mean_line(by_seed), colour, linewidth=1.8, label=name)
    if threshold is not None:
        axes.axhline(100 * threshold, color=ZERO, linewidth=1, linestyle="--")
        axes.annotate(
            f"threshold {100 * threshold:g} %",
            (0, 100 * threshold),
            xycoords=("axes fraction", "data"),
            xytext=(2, 3),
            textcoords="offset points",
            fontsize=8,
            color=LABEL,
        )
    if is_log:
        use_log_scale(axes)
    else:
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    return svg_text(figure)


def _plot(axes: Axes, line: Points, colour: str, **style: Any) -> None:
    axes.plot(list(line), list(line.values()), "-", color=colour, **style)
