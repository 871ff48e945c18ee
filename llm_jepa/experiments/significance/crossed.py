"""The standard error of a mean over seeds and clusters of test rows, when both are drawn at random.

Legend: S seeds, R test rows, C clusters of rows (each row its own cluster, if there are none).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtrinc, stdtr, stdtrit


@dataclass(frozen=True)
class CrossedMean:
    """A mean with its standard error and the degrees of freedom of the t distribution that judges it."""

    mean: float
    standard_error: float
    degrees_of_freedom: float

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """`mean -+ t * standard_error`."""
        half_width = self._critical(1 - confidence) * self.standard_error
        return self.mean - half_width, self.mean + half_width

    @property
    def p_value(self) -> float:
        """Two-sided p value of the hypothesis that the true mean is 0."""
        return float(2 * stdtr(self.degrees_of_freedom, -abs(self.mean) / self.standard_error))

    def detectable_difference(self, level: float, power: float = 0.8) -> float:
        """The true mean that a two-sided test at `level` finds with probability `power` at this standard error.

        A noncentral t variable with noncentrality `difference / standard_error` exceeds the critical value with that
        probability.
        """
        critical = self._critical(level)
        return float(nctdtrinc(self.degrees_of_freedom, 1 - power, critical)) * self.standard_error

    def _critical(self, level: float) -> float:
        return float(stdtrit(self.degrees_of_freedom, 1 - level / 2))


def cluster_totals(difference_SR: NDArray[np.float64], clusters: Sequence[Hashable]) -> NDArray[np.float64]:
    """Sum of each seed's rows by cluster, (S, C); `clusters` names the cluster of each row."""
    index_R = _cluster_index(clusters)
    return np.stack([np.bincount(index_R, weights=difference_R) for difference_R in difference_SR])


def cluster_means(difference_SR: NDArray[np.float64], clusters: Sequence[Hashable] | None) -> NDArray[np.float64]:
    """(S, C): one value for each seed and cluster, so that their mean over clusters is the seed's mean over rows.

    A large cluster weighs by its number of rows n_c. A seed's mean is then a ratio of two sums over clusters, and its
    linearised value is, with m_s the seed's mean and T_sc the sum of the cluster's rows,

        m_s + (C / R) (T_sc - n_c m_s)

    Equal clusters of n rows: R = C n, and the value is the cluster's mean T_sc / n. One row each: the row itself.
    Example: rows 1 1 0 in clusters a a b: m = 2/3; a: 2/3 + 2/3 (2 - 4/3) = 10/9; b: 2/3 + 2/3 (0 - 2/3) = 2/9; their
    mean is 2/3.
    """
    if clusters is None:
        return difference_SR
    totals_SC = cluster_totals(difference_SR, clusters)
    sizes_C = np.bincount(_cluster_index(clusters))
    mean_S1 = difference_SR.mean(axis=1, keepdims=True)
    return mean_S1 + len(sizes_C) / len(clusters) * (totals_SC - sizes_C * mean_S1)


def crossed_mean(value_SC: NDArray[np.float64]) -> CrossedMean:
    """Mean over seeds and clusters, with the variance of the model `mean + seed + cluster + residual`, all random.

    With V_s and V_c the squared standard errors of the means of seeds and of clusters, and V_r that of the residual,

        V_s = var_s(mean over c) / S     estimates seed / S + residual / (S C)
        V_c = var_c(mean over s) / C     estimates cluster / C + residual / (S C)
        V_r = residual mean square / (S C)

    Hence the variance of the mean is V_s + V_c - V_r (two-way clustering: Cameron, Gelbach and Miller 2011, Journal of
    Business & Economic Statistics 29(2)). A component estimated below zero counts as zero: `max(V_s, V_r) + max(V_c,
    V_r) - V_r`, which is never below V_s, V_c or V_r.

    Degrees of freedom: `1 / df = w / (S - 1) + (1 - w) / (C - 1)` with w = V_s / variance, at most 1. Satterthwaite
    (1946, Biometrics Bulletin 2(6)) has w^2 and (1 - w)^2, hence more. With five seeds these are too many: w is low by
    chance just where the seeds' variance is.
    """
    n_seeds, n_clusters = value_SC.shape
    mean, mean_S, mean_C = value_SC.mean(), value_SC.mean(axis=1), value_SC.mean(axis=0)
    residual_SC = value_SC - mean_S[:, None] - mean_C + mean
    of_seeds, of_clusters = mean_S.var(ddof=1) / n_seeds, mean_C.var(ddof=1) / n_clusters
    of_residual = (residual_SC**2).sum() / ((n_seeds - 1) * (n_clusters - 1)) / value_SC.size
    variance = max(of_seeds, of_residual) + max(of_clusters, of_residual) - of_residual
    weight = min(1.0, of_seeds / variance) if variance > 0 else 1.0
    degrees_of_freedom = 1 / (weight / (n_seeds - 1) + (1 - weight) / (n_clusters - 1))
    return CrossedMean(float(mean), float(variance**0.5), float(degrees_of_freedom))


def _cluster_index(clusters: Sequence[Hashable]) -> NDArray[np.int64]:
    """`b a b` -> `0 1 0`."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
