"""Draws the figures of a comparison as SVG text."""

import io
import json
from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from llm_jepa.experiments.series_names import arm_of

POINT, MEAN, ZERO, LABEL = "#4a78b5", "#1b1b1b", "#999999", "#57606a"
COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#9467bd",
    "#d62728",
    "#17becf",
    "#8c564b",
    "#7f7f7f",
    "#e377c2",
    "#bcbd22",
)
DEPTH_KEYS = ("predictor_layers", "model_name_or_path")
"""Arms that differ in these alone are one curve."""
_NAME_OF_POINT: dict[str, Any] = {
    "textcoords": "offset points",
    "fontsize": 8,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.6},
}
_SIDES_OF_NAMES: list[dict[str, Any]] = [
    {"xytext": (6, 4)},
    {"xytext": (-6, -4), "horizontalalignment": "right", "verticalalignment": "top"},
]
_SVG: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "llm-jepa",
}  # text remains text, and equal figures are equal files


def differences_figure(report: dict[str, Any], budget: str) -> str | None:
    """The paired differences of each contrast by seed, with mean and interval; None if none is finished."""
    primary = report["experiment"]["primary_score"]
    contrasts = report["comparisons"][budget].get(primary, {})
    finished = {key: verdict for key, verdict in contrasts.items() if verdict["difference"] is not None}
    if not finished:
        return None
    figure, axes = new_axes(1.1 + 0.45 * len(finished))
    for height, verdict in enumerate(finished.values()):
        baseline = report["series"][verdict["baseline"]]["scores"][primary]["by_seed"]
        own = report["series"][verdict["arm"]]["scores"][primary]["by_seed"]
        points = [100 * (own[seed] - baseline[seed]) for seed in own]
        axes.plot(points, [height] * len(points), "o", color=POINT, alpha=0.7, markersize=6)
        difference = verdict["difference"]
        _mean_with_interval(axes, difference["mean"], difference["interval"], height)
    axes.axvline(0, color=ZERO, linewidth=1)
    _label(axes, list(finished), f"{primary}: points over the baseline")
    return svg_text(figure)


def scores_figure(report: dict[str, Any]) -> str | None:
    """Each arm's primary score by seed, with the mean; None if no arm is finished."""
    primary = report["experiment"]["primary_score"]
    finished = {
        name: series["scores"][primary] for name, series in report["series"].items() if primary in series["scores"]
    }
    if not finished:
        return None
    figure, axes = new_axes(1.1 + 0.45 * len(finished))
    for height, score in enumerate(finished.values()):
        points = [100 * value for value in score["by_seed"].values()]
        axes.plot(points, [height] * len(points), "o", color=POINT, alpha=0.7, markersize=6)
        _mean_with_interval(axes, score["mean"], None, height)
    _label(axes, list(finished), f"{primary}, %")
    axes.set_xlim(-2, 102)
    return svg_text(figure)


def parameters_figure(report: dict[str, Any]) -> str | None:
    """Each arm's primary score by its trained parameters; a line joins arms that differ in depth or model alone.

    None if all finished arms train as many.
    """
    primary = report["experiment"]["primary_score"]
    curves: dict[str, list[tuple[float, str]]] = {}
    for arm, facts in report["arms"].items():
        parameters = facts["cost"].get("trained_parameters")  # reports of earlier versions lack it
        if parameters is not None and primary in report["series"][arm]["scores"]:
            others = {key: value for key, value in facts["settings"].items() if key not in DEPTH_KEYS}
            curves.setdefault(json.dumps(others, sort_keys=True), []).append((parameters / 1e6, arm))
    if len({millions for curve in curves.values() for millions, _ in curve}) < 2:
        return None
    figure, axes = new_axes(height_inches=3.6)
    for number, curve in enumerate(curves.values()):
        colour, means = COLOURS[number % len(COLOURS)], []
        for millions, arm in sorted(curve):
            score = report["series"][arm]["scores"][primary]
            points = [100 * value for value in score["by_seed"].values()]
            axes.plot([millions] * len(points), points, "o", color=colour, alpha=0.4, markersize=4)
            means.append(100 * score["mean"])
            place = millions, means[-1]
            axes.annotate(arm, place, color=colour, **_NAME_OF_POINT, **_SIDES_OF_NAMES[number % 2])
        axes.plot([millions for millions, _ in sorted(curve)], means, "D-", color=colour, markersize=5, linewidth=1.2)
    use_log_scale(axes)
    axes.margins(x=0.15)  # room for the names
    axes.set_xlabel("trained parameters, millions")
    axes.set_ylabel(f"{primary}, %")
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    return svg_text(figure)


def series_cost(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The cost of a series: that of its arm."""
    return report["arms"][arm_of(name)]["cost"]


def new_axes(height_inches: float) -> tuple[Figure, Axes]:
    """A figure of the report's width, and its axes without a frame."""
    figure = Figure(figsize=(8, height_inches), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def use_log_scale(axes: Axes) -> None:
    """Draw x on a log scale with ticks at 1, 2 and 5 of each power of ten."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def svg_text(figure: Figure) -> str:
    """A figure as SVG, without an XML header. Equal figures give equal text."""
    file = io.StringIO()
    with matplotlib.rc_context(_SVG):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _mean_with_interval(axes: Axes, mean: float, interval: dict[str, float] | None, height: int) -> None:
    if interval is not None:
        bounds = [100 * interval["low"], 100 * interval["high"]]
        axes.plot(bounds, [height - 0.25] * 2, "-", color=MEAN, linewidth=1.5)
    axes.plot([100 * mean], [height - 0.25], "D", color=MEAN, markersize=5)


def _label(axes: Axes, names: list[str], label: str) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.7)
    axes.set_xlabel(label)
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.8)
