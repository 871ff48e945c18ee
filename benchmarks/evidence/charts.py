"""Draws the charts of the page that no report has."""

from collections.abc import Mapping

from llm_jepa.experiments.figures import new_axes, svg_text


def bars(values: Mapping[str, float], label: str, reference: float | None = None) -> str:
    """One bar for each name, with its value, and a line at the reference, as SVG."""
    figure, axes = new_axes(1.1 + 0.4 * len(values))
    drawn = axes.barh(list(values), list(values.values()), color="#4a78b5", height=0.6)
    axes.bar_label(drawn, [f"{value:g}" for value in values.values()], padding=4, fontsize=9)
    axes.invert_yaxis()
    if reference is not None:
        axes.axvline(reference, color="#999999", linewidth=1)
    axes.set_xlabel(label)
    return svg_text(figure)
