"""Outcomes that are bimodal over seeds: whether a run reaches a threshold at all, and when.

The tests treat arm and baseline as independent groups. Seeds that pair well make them conservative.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, fisher_exact, permutation_test

# All divisions of twice seven seeds (3,432); of more seeds, a seeded sample. It takes half a second.
_MAX_DIVISIONS = 9_999
# Equal sums of scores can differ by rounding beyond this.
_DECIMALS = 9


@dataclass(frozen=True)
class Reach:
    """When one run reached the threshold.

    Attributes:
        time: Time of the first evaluation at the threshold or beyond; None if no evaluation was.
        last_time: Time of the last evaluation.
        unit: Of the times: steps, or FLOPs.
    """

    time: float | None
    last_time: float
    unit: str = "steps"


@dataclass(frozen=True)
class ReachedShares:
    """How many seeds of the arm and of the baseline reach the threshold. Intervals are Wilson's, 95 %."""

    arm_hits: int
    arm_interval: tuple[float, float]
    baseline_hits: int
    baseline_interval: tuple[float, float]
    p_value: float
    least_p_value: float
    n_seeds: int

    @property
    def direction(self) -> int:
        """1 if more seeds of the arm reach it, -1 if fewer, 0 if as many."""
        return int(np.sign(self.arm_hits - self.baseline_hits))

    @property
    def figures(self) -> str:
        """Both shares in words."""
        shown = [
            f"{hits} of {self.n_seeds} seeds (95 % {100 * low:.0f} to {100 * high:.0f} %)"
            for hits, (low, high) in (
                (self.arm_hits, self.arm_interval),
                (self.baseline_hits, self.baseline_interval),
            )
        ]
        return f"{shown[0]} reach the threshold, of the baseline {shown[1]}"


@dataclass(frozen=True)
class ReachTimes:
    """When the arm and the baseline reach the threshold. A median is None if half of the seeds or more never do."""

    arm_median: float | None
    baseline_median: float | None
    unit: str
    direction: int
    p_value: float
    least_p_value: float
    n_seeds: int

    @property
    def figures(self) -> str:
        """Both medians in words."""
        arm, baseline = (
            "never" if median is None else f"{median:,.4g} {self.unit}"
            for median in (self.arm_median, self.baseline_median)
        )
        return f"median time to the threshold {arm}, of the baseline {baseline} ({self.n_seeds} seeds each)"


def first_reach(
    curve: Sequence[tuple[float, float]], threshold: float, *, higher_is_better: bool = True, unit: str = "steps"
) -> Reach:
    """When a curve of (time, score) first reaches the threshold. ValueError if the curve is empty."""
    if not curve:
        raise ValueError("A run without evaluations has no time to the threshold. Evaluate it while it trains.")
    ordered = sorted(curve)
    times = [time for time, score in ordered if (score >= threshold if higher_is_better else score <= threshold)]
    return Reach(times[0] if times else None, ordered[-1][0], unit)


def reached_shares(arm: Mapping[int, Reach], baseline: Mapping[int, Reach]) -> ReachedShares:
    """Share of seeds that reach the threshold, compared by Fisher's exact test, two-sided. Arguments are by seed."""
    _check_seeds(arm, baseline)
    n_seeds = len(arm)
    hits = [sum(reach.time is not None for reach in group.values()) for group in (arm, baseline)]
    intervals = [binomtest(count, n_seeds).proportion_ci(0.95, "wilson") for count in hits]
    p_value = fisher_exact([[count, n_seeds - count] for count in hits]).pvalue
    (arm_interval, baseline_interval) = [(float(interval.low), float(interval.high)) for interval in intervals]
    return ReachedShares(
        hits[0], arm_interval, hits[1], baseline_interval, min(1.0, float(p_value)), _least(n_seeds), n_seeds
    )


def reach_times(arm: Mapping[int, Reach], baseline: Mapping[int, Reach]) -> ReachTimes:
    """Time to the threshold by the log-rank test; a seed that never reaches it is censored at its last time.

    The p value is exact: the share of all divisions of the runs into two groups whose log-rank numerator is as extreme
    on either side; above seven seeds, of a sample of divisions. The chi-square limit (`scipy.stats.logrank`) finds up
    to twice as many false positives as it states with five seeds.

    Args:
        arm: Seed -> when its run reached the threshold.
        baseline: The same of the baseline, in the same unit.

    Raises:
        ValueError: The seeds or the units differ.
    """
    _check_seeds(arm, baseline)
    units = {reach.unit for group in (arm, baseline) for reach in group.values()}
    if len(units) > 1:
        raise ValueError(f"Times must have one unit; given: {', '.join(sorted(units))}.")
    runs = [*arm.values(), *baseline.values()]
    n_seeds = len(arm)
    scores = logrank_scores(
        np.array([run.last_time if run.time is None else run.time for run in runs]),
        np.array([run.time is not None for run in runs]),
    )
    numerator = float(scores[:n_seeds].sum())
    if np.ptp(scores) == 0:
        p_value = 1.0
    else:
        p_value = permutation_test(
            (scores[:n_seeds], scores[n_seeds:]),
            lambda x, y, axis: x.sum(axis=axis).round(_DECIMALS),
            vectorized=True,
            n_resamples=_MAX_DIVISIONS,
            random_state=np.random.default_rng(0),
        ).pvalue
    direction = int(np.sign(round(numerator, _DECIMALS)))
    medians = _median(arm), _median(baseline)
    return ReachTimes(*medians, units.pop(), direction, min(1.0, float(p_value)), _least(n_seeds), n_seeds)


def logrank_scores(time_N: NDArray[np.float64], reached_N: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`reached - H(time)` of each run, H the Nelson-Aalen estimate of all runs; they sum to 0.

    Their sum over one group is the numerator of the log-rank statistic, observed minus expected events (Peto and Peto
    1972, Journal of the Royal Statistical Society A 135(2)). Example: times 1, 2, 3 and one censored at 3: H = 1/4,
    1/4 + 1/3, 1/4 + 1/3 + 1/2.
    """
    at_risk_N = (time_N[None, :] >= time_N[:, None]).sum(axis=1)
    hazard_NN = np.where((time_N[None, :] <= time_N[:, None]) & reached_N[None, :], 1 / at_risk_N[None, :], 0.0)
    return reached_N - hazard_NN.sum(axis=1)


def _median(runs: Mapping[int, Reach]) -> float | None:
    median = float(np.median([np.inf if run.time is None else run.time for run in runs.values()]))
    return median if np.isfinite(median) else None


def _least(n_seeds: int) -> float:
    """The p value of the most extreme division of twice n seeds, on either side."""
    return min(1.0, 2 / comb(2 * n_seeds, n_seeds))


def _check_seeds(arm: Mapping[int, Reach], baseline: Mapping[int, Reach]) -> None:
    if arm.keys() != baseline.keys() or not arm:
        raise ValueError(f"Seeds must be the same; the arm has {sorted(arm)} and the baseline {sorted(baseline)}.")
