"""The scores of one arm over its seeds."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from llm_jepa.experiments.significance.crossed import cluster_means, crossed_mean, effective_clusters

# So few say nothing: the interval is 0 to 1. Below one degree of freedom t, and so the variance, can be beyond bounds.
_LEAST_ROWS = 1e-9


@dataclass(frozen=True)
class Summary:
    """Scores of one arm over its seeds. The standard deviation is the sample's (ddof=1); None for a single seed."""

    mean: float
    standard_deviation: float | None
    n_seeds: int


def summarise(scores: Mapping[int, float]) -> Summary:
    """Mean and spread of one arm's scores by seed. ValueError if there are none or one is not finite."""
    scores_S = np.asarray(list(scores.values()), dtype=float)
    if scores_S.size == 0 or not np.isfinite(scores_S).all():
        raise ValueError(f"An arm's scores must be finite numbers, at least one; given by seed: {dict(scores)}.")
    deviation = float(scores_S.std(ddof=1)) if len(scores_S) > 1 else None
    return Summary(float(scores_S.mean()), deviation, len(scores_S))


def effective_rows(share_SR: ArrayLike, clusters: Sequence[Hashable]) -> float:
    """The number of independent rows whose share is as uncertain as this one, over seeds and rows both drawn anew.

    With p the mean, t the quantile of its degrees of freedom and z the normal one,

        min(rows, p (1 - p) / variance * (z / t)^2)

    An interval for a share of so many rows is as wide as that of the crossed standard error, and stays between 0 and 1
    (Korn and Graubard 1998, Survey Methodology 24(2)). One seed, one cluster and no spread give the rows, or their
    effective number in clusters.

    Args:
        share_SR: (seeds, rows), the score of each row, between 0 and 1.
        clusters: The cluster of each row.
    """
    rows_SR = np.asarray(share_SR, dtype=float)
    n_rows = effective_clusters(clusters, rows_SR.shape[1])
    value_SC = cluster_means(rows_SR, clusters)
    if min(value_SC.shape) < 2 or np.ptp(rows_SR) == 0:
        return n_rows
    crossed = crossed_mean(value_SC, n_rows)
    variance = (crossed.standard_error * stdtrit(crossed.degrees_of_freedom, 0.975) / ndtri(0.975)) ** 2
    spread = crossed.mean * (1 - crossed.mean)
    return n_rows if n_rows * variance <= spread else max(_LEAST_ROWS, spread / variance)
