"""What figures share: axes with a grid, and equal files of equal figures."""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def new_axes() -> tuple[Figure, Axes]:
    """A figure of curves, and its axes with a grid and half a frame."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def write_svg(figure: Figure, path: Path) -> None:
    """Write a figure as SVG without a date, and with the same ids each time."""
    with matplotlib.rc_context({"svg.hashsalt": "llm-jepa"}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
