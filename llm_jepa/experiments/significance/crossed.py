"""The standard error of a mean over seeds and clusters of test rows, when both are drawn at random.

Legend: S seeds, R test rows, C clusters of rows (each row its own cluster, if there are none).
"""

import math
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
        probability. Infinite below one degree of freedom, where the noncentral t distribution cannot be inverted.
        """
        if self.degrees_of_freedom < 1:
            return math.inf
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


def effective_clusters(clusters: Sequence[Hashable] | None, n_rows: int) -> float:
    """`R^2 / sum of n_c^2`: the number of equal clusters that vary as much; C if all have as many rows.

    Example: 10 clusters of one row and one of 40: 2500 / 1610 = 1.6, for nearly all lies with one cluster. Carter,
    Schnepel and Steigerwald 2017, Review of Economics and Statistics 99(4).
    """
    if clusters is None:
        return float(n_rows)
    return float(n_rows**2 / (np.bincount(_cluster_index(clusters)) ** 2).sum())


def crossed_mean(value_SC: NDArray[np.float64], n_effective: float | None = None) -> CrossedMean:
    """Mean over seeds and clusters, with the variance of the model `mean + seed + cluster + residual`, all random.

    With V_s and V_c the squared standard errors of the means of seeds and of clusters, and V_r that of the residual,

        V_s = var_s(mean over c) / S     estimates seed / S + residual / (S C)
        V_c = var_c(mean over s) / C     estimates cluster / C + residual / (S C)
        V_r = residual mean square / (S C)

    Hence the variance of the mean is V_s + V_c - V_r (two-way clustering: Cameron, Gelbach and Miller 2011, Journal of
    Business & Economic Statistics 29(2)). A component estimated below zero counts as zero: `max(V_s, V_r) + max(V_c,
    V_r) - V_r`, which is never below V_s, V_c or V_r.

    Degrees of freedom, with E the effective number of clusters, which is C unless `n_effective` gives it:

        1 / df = w / (S - 1) + (1 - w) / (E - 1)
        w = V_s / (V_s + (variance - V_s) (S - 3) / (S - 1))

    w is the seeds' share of the variance; the factor removes the bias of dividing by V_s, by the mean of an F
    distribution. Satterthwaite (1946, Biometrics Bulletin 2(6)) has V_s / variance and squares it and its complement,
    hence more degrees of freedom. With few seeds they are too many: V_s is small by chance just where the test
    errs.
    """
    n_seeds, n_clusters = value_SC.shape
    mean, mean_S, mean_C = value_SC.mean(), value_SC.mean(axis=1), value_SC.mean(axis=0)
    residual_SC = value_SC - mean_S[:, None] - mean_C + mean
    of_seeds, of_clusters = mean_S.var(ddof=1) / n_seeds, mean_C.var(ddof=1) / n_clusters
    of_residual = (residual_SC**2).sum() / ((n_seeds - 1) * (n_clusters - 1)) / value_SC.size
    variance = max(of_seeds, of_residual) + max(of_clusters, of_residual) - of_residual
    unbiased = of_seeds + (variance - of_seeds) * max(0, n_seeds - 3) / (n_seeds - 1)
    weight = of_seeds / unbiased if unbiased > 0 else 1.0
    of_rows = (n_clusters if n_effective is None else n_effective) - 1
    degrees_of_freedom = 1 / (weight / (n_seeds - 1) + (1 - weight) / of_rows)
    return CrossedMean(float(mean), float(variance**0.5), float(degrees_of_freedom))


def _cluster_index(clusters: Sequence[Hashable]) -> NDArray[np.int64]:
    """`b a b` -> `0 1 0`."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
