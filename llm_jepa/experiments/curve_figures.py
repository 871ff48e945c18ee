"""Draws what happened along the training of an experiment: its losses, and its scores if they were evaluated."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from llm_jepa.experiments.figures import new_axes, svg_text

Points = Mapping[int, float]
COLOURS = ("#4a78b5", "#b4572a", "#1a7f37", "#8250a8", "#9a6700", "#0a7c86", "#b42318", "#57606a")


def loss_figure(report: dict[str, Any]) -> str | None:
    """The next-token loss of each series over the steps, a thin line for each seed and a thick one for their mean."""
    lines = {
        name: [_points(log, "lm_loss") or _points(log, "loss") for log in series["log"].values()]
        for name, series in report["series"].items()
    }
    return _figure(lines, "next-token loss")


def score_figure(report: dict[str, Any]) -> str | None:
    """The primary score of each series over the steps; None if nothing was evaluated along the training."""
    primary = report["experiment"]["primary_score"]
    lines = {
        name: [
            {point["step"]: 100 * point["scores"][primary] for point in curve if primary in point["scores"]}
            for curve in series["curve"].values()
        ]
        for name, series in report["series"].items()
    }
    return _figure(lines, f"{primary}, %", report["experiment"]["threshold"])


def mean_line(lines: Sequence[Points]) -> dict[int, float]:
    """The mean over seeds at the steps that all of them have."""
    if not lines:
        return {}
    common = sorted(set.intersection(*(set(line) for line in lines)))
    return {step: sum(line[step] for line in lines) / len(lines) for step in common}


def _points(log: Sequence[Mapping[str, Any]], name: str) -> dict[int, float]:
    return {entry["step"]: entry[name] for entry in log if name in entry}


def _figure(lines: Mapping[str, Sequence[Points]], label: str, threshold: float | None = None) -> str | None:
    drawn = {name: [line for line in by_seed if line] for name, by_seed in lines.items()}
    drawn = {name: by_seed for name, by_seed in drawn.items() if by_seed}
    if not drawn:
        return None
    figure, axes = new_axes(height_inches=3.2)
    for number, (name, by_seed) in enumerate(drawn.items()):
        colour = COLOURS[number % len(COLOURS)]
        for line in by_seed:
            _plot(axes, line, colour, alpha=0.3, linewidth=0.8)
        _plot(axes, mean_line(by_seed), colour, linewidth=1.8, label=name)
    if threshold is not None:
        axes.axhline(100 * threshold, color="#999999", linewidth=1, linestyle="--")
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.legend(frameon=False, fontsize=9)
    return svg_text(figure)


def _plot(axes: Axes, line: Points, colour: str, **style: Any) -> None:
    axes.plot(list(line), list(line.values()), "-", color=colour, **style)
