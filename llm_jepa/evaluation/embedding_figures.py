"""Plots the embeddings of sources and targets before and after training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from llm_jepa.evaluation.probe import Embeddings
from llm_jepa.evaluation.svg import write_svg

SOURCE_COLOUR, TARGET_COLOUR, PAIR_COLOUR = "#4a78b5", "#c2571a", "#bbbbbb"
MAX_PERPLEXITY = 30
JOINED_PAIRS = 50


def draw_maps(embeddings: Sequence[Embeddings], path: Path) -> None:
    """Write an SVG with PCA above and t-SNE below, one column for each checkpoint; lines join the first pairs."""
    figure = Figure(figsize=(5 * len(embeddings), 9), layout="constrained")
    grid = figure.subplots(2, len(embeddings), squeeze=False)
    for column, one in enumerate(embeddings):
        points = np.concatenate([one.source_ND.numpy(), one.target_ND.numpy()])
        flat_pca = _pca(points)
        for row, (name, flat) in enumerate((("PCA", flat_pca), ("t-SNE", _tsne(points, flat_pca)))):
            _scatter(grid[row][column], flat, f"{name}, {one.checkpoint}")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    write_svg(figure, path)


def _pca(points: NDArray) -> NDArray:
    with np.errstate(invalid="ignore"):  # collapsed embeddings have no variance to explain
        return PCA(n_components=2).fit_transform(points)


def _tsne(points: NDArray, flat_pca: NDArray) -> NDArray:
    """From the first two principal components on, which collapsed embeddings are drawn by: they have no spread."""
    if not flat_pca.std() > 0:
        return flat_pca
    perplexity = min(MAX_PERPLEXITY, (len(points) - 1) / 3)
    return TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=0).fit_transform(points)


def _scatter(axes: Axes, flat: NDArray, title: str) -> None:
    half = len(flat) // 2
    for start, end in zip(flat[:half][:JOINED_PAIRS], flat[half:][:JOINED_PAIRS], strict=True):
        axes.plot(*zip(start, end, strict=True), color=PAIR_COLOUR, linewidth=0.6, zorder=1)
    for points, colour, name in ((flat[:half], SOURCE_COLOUR, "source"), (flat[half:], TARGET_COLOUR, "target")):
        axes.scatter(points[:, 0], points[:, 1], s=10, color=colour, label=name, zorder=2)
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
