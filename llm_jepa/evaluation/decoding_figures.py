"""Draws what a fallback margin does: accuracy over the mean latency of a request."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from llm_jepa.evaluation.fallback import FallbackPoint
from llm_jepa.evaluation.svg import new_axes, write_svg

CURVE, CHOSEN, ALONE = "#4a78b5", "#c2571a", "#1b1b1b"


def draw_fallback(
    curve: Sequence[FallbackPoint], chosen: FallbackPoint, alone: Mapping[str, tuple[float, float]], path: Path
) -> None:
    """Write an SVG: the curve of all margins, the chosen one, and each decoding by itself.

    Args:
        alone: Name of a decoding -> its mean latency in seconds, its accuracy.
    """
    figure, axes = new_axes()
    axes.plot([1000 * point.seconds for point in curve], [100 * point.accuracy for point in curve], color=CURVE)
    label = f"margin {chosen.margin:.3g}, {100 * chosen.share_generated:.0f} % generated"
    axes.plot(1000 * chosen.seconds, 100 * chosen.accuracy, "D", color=CHOSEN, label=label)
    for name, (seconds, accuracy) in alone.items():
        axes.plot(1000 * seconds, 100 * accuracy, "o", color=ALONE)
        axes.annotate(name, (1000 * seconds, 100 * accuracy), xytext=(5, 5), textcoords="offset points")
    axes.set_xlabel("mean latency of a request, ms")
    axes.set_ylabel("accuracy, %")
    axes.legend(frameon=False)
    write_svg(figure, path)
