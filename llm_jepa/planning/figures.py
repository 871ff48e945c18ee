"""Draws when latent inference has repaid the extra cost of its training."""

from collections.abc import Sequence
from pathlib import Path

from llm_jepa.evaluation.svg import new_axes, write_svg
from llm_jepa.planning.break_even import BreakEven
from llm_jepa.planning.estimate import Estimate

BASELINE, WAYS = "#1b1b1b", ("#4a78b5", "#c2571a", "#3d8a5f", "#8a5fa8", "#a89a3d", "#5fa8a8")


def draw_break_even(extra_seconds: Estimate, found: Sequence[BreakEven], path: Path) -> None:
    """Write an SVG: seconds of the device over the number of requests, training's extra ones included.

    The band is the low and the high estimate of training; a dot is where a way has repaid it.
    """
    figure, axes = new_axes()
    shown = _shown_requests(extra_seconds, found)
    axes.plot([0, shown], [0, shown * found[0].baseline_seconds], color=BASELINE, label=f"{found[0].baseline}, SFT")
    for one, colour in zip(found, WAYS * len(found), strict=False):
        low, expected, high = (
            [extra, extra + shown * one.seconds]
            for extra in (extra_seconds.low, extra_seconds.expected, extra_seconds.high)
        )
        axes.plot([0, shown], expected, color=colour, label=one.way)
        axes.fill_between([0, shown], low, high, color=colour, alpha=0.15, linewidth=0)
        if one.requests is not None and one.requests.expected > 0:
            repaid = one.requests.expected
            axes.plot(repaid, repaid * one.baseline_seconds, "o", color=colour)
    axes.set_xlabel("requests")
    axes.set_ylabel("seconds: training over SFT, and answers")
    axes.set_xlim(0, shown)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    write_svg(figure, path)


def _shown_requests(extra_seconds: Estimate, found: Sequence[BreakEven]) -> float:
    """Twice as many as the last break-even; without one, as many as take four times the training's extra seconds."""
    repaid = [one.requests.expected for one in found if one.requests is not None]
    unpaid = 4 * extra_seconds.expected / found[0].baseline_seconds
    return max(2 * max(repaid, default=0.0) or unpaid, 100.0)
