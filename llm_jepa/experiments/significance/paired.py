"""The difference of two arms over paired seeds and test rows: mean, intervals, p value."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from llm_jepa.experiments.significance.crossed import (
    CrossedMean,
    cluster_means,
    cluster_totals,
    crossed_mean,
    effective_clusters,
)

# Rounding can make equal shares differ by this much.
_ROUNDING = 1e-9
# More than any two shares differ by.
_IMPOSSIBLE = 2.0


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval of a single comparison; Holm's correction does not widen it.

    It ends at -1 and 1, for two shares cannot differ by more.
    """

    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """Arm minus baseline: the mean over seeds and rows.

    Attributes:
        mean: In shares of rows.
        baseline_mean: The baseline's score itself.
        interval: Over seeds and rows, both drawn anew. None without spread, with one seed or with one cluster.
        p_value: Of the same. None with one seed or one cluster.
        standard_error: Of the same.
        degrees_of_freedom: Of the same.
        seed_interval: Over seeds alone: other training runs, the same test rows.
        row_interval: Over rows (or clusters of rows) alone: the same models, other rows.
        seeds_differ: Whether the seeds' differences are not all equal.
        n_seeds: Number of seeds.
        n_rows: Number of rows that the score counts.
        n_clusters: Number of clusters of rows; None if each row is its own.
    """

    mean: float
    baseline_mean: float
    interval: Interval | None
    p_value: float | None
    standard_error: float | None
    degrees_of_freedom: float | None
    seed_interval: Interval | None
    row_interval: Interval | None
    seeds_differ: bool
    n_seeds: int
    n_rows: int
    n_clusters: int | None

    @property
    def direction(self) -> int:
        """1 if the arm scores more than the baseline, -1 if less, 0 if the same."""
        return 0 if abs(self.mean) <= _ROUNDING else int(np.sign(self.mean))

    def detectable_difference(self, level: float) -> float | None:
        """The true difference that a test at `level` finds with 80 % probability; None without a standard error.

        2 stands for all that is larger.
        """
        if self.standard_error is None or self.degrees_of_freedom is None:
            return None
        crossed = CrossedMean(self.mean, self.standard_error, self.degrees_of_freedom)
        return min(_IMPOSSIBLE, crossed.detectable_difference(level))

    @property
    def largest_possible(self) -> float:
        """The largest difference, up or down, that a share of rows can have to the baseline's."""
        return max(self.baseline_mean, 1 - self.baseline_mean)

    @property
    def figures(self) -> str:
        """Difference and intervals in words."""
        rows = f"{self.n_rows} test rows" if self.n_rows != 1 else "1 test row"
        clusters = "" if self.n_clusters is None else f" in {self.n_clusters} clusters"
        return (
            f"{points(self.mean)} points (95 % CI {_shown(self.interval)} over seeds and rows; "
            f"{_shown(self.seed_interval)} over {self.n_seeds} seed{'s' * (self.n_seeds != 1)} alone; "
            f"{_shown(self.row_interval)} over {rows}{clusters} alone)"
        )


def paired_difference(
    arm_SR: ArrayLike, baseline_SR: ArrayLike, clusters: Sequence[Hashable] | None = None
) -> PairedDifference:
    """Arm minus baseline; seed s and row r are the same seed and the same test row in both.

    The p value is that of `crossed_mean`, or a larger one where the t distribution would be too sure:

    - Only n rows (or clusters) differ at all: the sign-flip test cannot give less than 2^(1 - n).
    - All seeds have the same difference: the sign-flip test over seeds cannot give less than 2^(1 - S). No difference
      at all: 1.

    Args:
        arm_SR: (seeds, rows), the score of each row.
        baseline_SR: The same of the baseline.
        clusters: The cluster of each row; None if the rows are independent.

    Raises:
        ValueError: The shapes differ or are not (seeds, rows), a value is not finite, or a row has no cluster.
    """
    arm, baseline = np.asarray(arm_SR, dtype=float), np.asarray(baseline_SR, dtype=float)
    if arm.shape != baseline.shape or arm.ndim != 2 or arm.size == 0:
        raise ValueError(
            f"Rows must be (seeds, rows), the same for both; the shapes are {arm.shape}, {baseline.shape}."
        )
    if not (np.isfinite(arm).all() and np.isfinite(baseline).all()):
        raise ValueError("The score of each row must be a finite number.")
    if clusters is not None and len(clusters) != arm.shape[1]:
        raise ValueError(f"Each row needs a cluster; there are {arm.shape[1]} rows and {len(clusters)} clusters.")
    difference_SR = arm - baseline
    value_SC = cluster_means(difference_SR, clusters)
    n_seeds, n_clusters = value_SC.shape
    n_effective = effective_clusters(clusters, difference_SR.shape[1])
    crossed = crossed_mean(value_SC, n_effective) if min(n_seeds, n_clusters) > 1 else None
    has_error = crossed is not None and crossed.standard_error > _ROUNDING
    return PairedDifference(
        mean=float(difference_SR.mean()),
        baseline_mean=float(baseline.mean()),
        interval=_interval(*crossed.interval()) if crossed is not None and has_error else None,
        p_value=None if crossed is None else _p_value(crossed, difference_SR, clusters),
        standard_error=crossed.standard_error if crossed is not None and has_error else None,
        degrees_of_freedom=crossed.degrees_of_freedom if crossed is not None and has_error else None,
        seed_interval=_t_interval(value_SC.mean(axis=1), n_seeds - 1),
        row_interval=_t_interval(value_SC.mean(axis=0), n_effective - 1),
        seeds_differ=_has_spread(value_SC.mean(axis=1)),
        n_seeds=n_seeds,
        n_rows=difference_SR.shape[1],
        n_clusters=None if clusters is None else n_clusters,
    )


def points(share: float) -> str:
    """0.012 -> `+1.2`."""
    return f"{100 * share:+z.1f}"


def _p_value(crossed: CrossedMean, difference_SR: NDArray[np.float64], clusters: Sequence[Hashable] | None) -> float:
    if abs(crossed.mean) <= _ROUNDING:
        return 1.0
    totals_SC = difference_SR if clusters is None else cluster_totals(difference_SR, clusters)
    differing = int((abs(totals_SC.sum(axis=0)) > _ROUNDING).sum())
    least = 2.0 ** (1 - differing)
    if not _has_spread(difference_SR.mean(axis=1)):
        least = max(least, 2.0 ** (1 - len(difference_SR)))
    return max(least, crossed.p_value) if crossed.standard_error > _ROUNDING else least


def _has_spread(values: NDArray[np.float64]) -> bool:
    return bool(np.ptp(values) > _ROUNDING)


def _t_interval(values: NDArray[np.float64], degrees_of_freedom: float) -> Interval | None:
    if not _has_spread(values):
        return None
    half_width = stdtrit(degrees_of_freedom, 0.975) * values.std(ddof=1) / len(values) ** 0.5
    return _interval(float(values.mean() - half_width), float(values.mean() + half_width))


def _interval(low: float, high: float) -> Interval:
    return Interval(max(-1.0, low), min(1.0, high))


def _shown(interval: Interval | None) -> str:
    return "none" if interval is None else f"{points(interval.low)} to {points(interval.high)}"
