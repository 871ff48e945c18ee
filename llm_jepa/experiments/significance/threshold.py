"""Outcomes that are bimodal over seeds: whether a run reaches a threshold at all, and when.

The tests treat arm and baseline as independent groups. Seeds that pair well make them conservative.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, fisher_exact

# All divisions of twice ten seeds (184,756); of more seeds, a seeded sample.
_MAX_DIVISIONS = 200_000
_SAMPLED_DIVISIONS = 99_999
# Equal sums of scores can differ by rounding beyond this.
_DECIMALS = 9
_PREFIXES = {1e18: "E", 1e15: "P", 1e12: "T", 1e9: "G"}


@dataclass(frozen=True)
class Reach:
    """When one run reached the threshold.

    Attributes:
        time: Time of the first evaluation at the threshold or beyond; None if no evaluation was.
        last_time: Time of the last evaluation.
        unit: Of the times: steps, or FLOPs.
        evaluated: Times of all evaluations in order; none if `time` is exact.
        passed: Those of the evaluations at the threshold or beyond.
    """

    time: float | None
    last_time: float
    unit: str = "steps"
    evaluated: tuple[float, ...] = ()
    passed: tuple[float, ...] = ()


@dataclass(frozen=True)
class ReachedShares:
    """How many seeds of the arm and of the baseline reach the threshold. Intervals are Wilson's, 95 %.

    `p_by_hits` has the p value that each number of the arm's seeds, from none to all, has against this baseline.
    `is_at_common_times` tells that arm and baseline were evaluated at different times, and judged at common ones.
    """

    arm_hits: int
    arm_interval: tuple[float, float]
    baseline_hits: int
    baseline_interval: tuple[float, float]
    p_value: float
    p_by_hits: tuple[float, ...]
    n_seeds: int
    is_at_common_times: bool = False

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
        reach = "reach the threshold at common times" if self.is_at_common_times else "ever reach the threshold"
        return f"{shown[0]} {reach}, of the baseline {shown[1]}"


@dataclass(frozen=True)
class ReachTimes:
    """When the arm and the baseline reach the threshold. A median is None if half of the seeds or more never do.

    `n_sampled_divisions` is None if the p value is exact. `p_by_hits` has the p value that each number of the arm's
    seeds, from none to all, has if they reach it before the baseline's first and the arm's others never do.
    """

    arm_median: float | None
    baseline_median: float | None
    unit: str
    direction: int
    p_value: float
    p_by_hits: tuple[float, ...]
    n_seeds: int
    n_sampled_divisions: int | None

    @property
    def figures(self) -> str:
        """Both medians in words."""
        arm, baseline = (time_in_words(median, self.unit) for median in (self.arm_median, self.baseline_median))
        sampled = "" if self.n_sampled_divisions is None else f"; p from {self.n_sampled_divisions:,} drawn divisions"
        return f"median time to the threshold {arm}, of the baseline {baseline} ({self.n_seeds} seeds each{sampled})"


def time_in_words(time: float | None, unit: str) -> str:
    """When a threshold is reached: 5,000 steps, 14.69 TFLOP, or never."""
    if time is None:
        return "never"
    if unit != "FLOPs":
        return f"{time:,.4g} {unit}"
    scale = next((scale for scale in _PREFIXES if time >= scale), 1.0)
    return f"{time / scale:,.4g} {_PREFIXES.get(scale, '')}FLOP"


def first_reach(
    curve: Sequence[tuple[float, float]], threshold: float, *, higher_is_better: bool = True, unit: str = "steps"
) -> Reach:
    """When a curve of (time, score) first reaches the threshold. ValueError if the curve is empty."""
    if not curve:
        raise ValueError("A run without evaluations has no time to the threshold. Evaluate it while it trains.")
    ordered = sorted(curve)
    passed = [time for time, score in ordered if (score >= threshold if higher_is_better else score <= threshold)]
    evaluated = tuple(dict.fromkeys(time for time, _ in ordered))
    return Reach(passed[0] if passed else None, evaluated[-1], unit, evaluated, tuple(dict.fromkeys(passed)))


def at_common_times(runs: Sequence[Reach], *, is_late: bool) -> list[Reach]:
    """The runs at common times: the evaluations of the run with the longest interval, up to the first end of a run.

    A run evaluated at other times is judged by its last evaluation before a common time, which makes it late, or by
    its first one after, which makes it early; its own state there lies between. Its other evaluations do not count,
    so that all runs have as many chances to pass the threshold by the noise of a score. Runs with exact times stay.
    Example: intervals 3 and 2 have the common times 3, 6. A run of the second that passes from 4 on is there at 3 or
    at 6; one that passes at 4 alone is there at 3 or never.
    """
    evaluated = [run.evaluated for run in runs if run.evaluated]
    if len(evaluated) < len(runs):
        return list(runs)
    # Runs of equal FLOPs have whole steps, so they end within half a step of one another.
    end = min(times[-1] for times in evaluated) + min(times[0] for times in evaluated) / 2
    common = [time for time in max(evaluated, key=lambda times: times[0]) if time <= end]
    last_time, judged = common[-1] if common else end, []
    for run in runs:
        last = len(run.evaluated) - 1
        found = [bisect_right(run.evaluated, time) - 1 for time in common]
        if not is_late:
            found = [min(bisect_left(run.evaluated, time), last) for time in common]
        there = [
            time
            for time, index in zip(common, found, strict=True)
            if index >= 0 and run.evaluated[index] in run.passed
        ]
        judged.append(Reach(there[0] if there else None, last_time, run.unit))
    return judged


def reached_shares(arm: Mapping[int, Reach], baseline: Mapping[int, Reach]) -> ReachedShares:
    """Share of seeds that reach the threshold, compared by Fisher's exact test, two-sided. Arguments are by seed.

    Groups evaluated at different times are judged `at_common_times`, late and early; the shares with the larger p
    value are given, with p = 1 if the directions differ.
    """
    _check_seeds(arm, baseline)
    runs, n_seeds = [*arm.values(), *baseline.values()], len(arm)
    late, early = (_fisher(at_common_times(runs, is_late=is_late), n_seeds) for is_late in (True, False))
    found = max(late, early, key=lambda shares: shares.p_value)
    found = replace(found, is_at_common_times=len({run.evaluated for run in runs}) > 1)
    return replace(found, p_value=1.0) if late.direction * early.direction < 0 else found


def _fisher(runs: Sequence[Reach], n_seeds: int) -> ReachedShares:
    """Shares of the runs, the arm's first."""
    hits = [sum(reach.time is not None for reach in group) for group in (runs[:n_seeds], runs[n_seeds:])]
    intervals = [binomtest(count, n_seeds).proportion_ci(0.95, "wilson") for count in hits]
    p_by_hits = tuple(
        min(1.0, float(fisher_exact([[count, n_seeds - count], [hits[1], n_seeds - hits[1]]]).pvalue))
        for count in range(n_seeds + 1)
    )
    (arm_interval, baseline_interval) = [(float(interval.low), float(interval.high)) for interval in intervals]
    return ReachedShares(hits[0], arm_interval, hits[1], baseline_interval, p_by_hits[hits[0]], p_by_hits, n_seeds)


def reach_times(arm: Mapping[int, Reach], baseline: Mapping[int, Reach]) -> ReachTimes:
    """Time to the threshold by the log-rank test; a seed that never reaches it is censored at its last time.

    The p value is exact: twice the share of all divisions of the runs into two groups whose log-rank numerator is as
    extreme on the smaller side; above ten seeds, of a sample of divisions with the one seen among them. The order of
    the seeds changes nothing. The chi-square limit (`scipy.stats.logrank`) finds up to twice as many false positives
    with five seeds as it states.

    Groups evaluated at different times are compared `at_common_times`, late and early. The p value is the larger of
    both, and 1 if the directions differ: the group evaluated more often would else be sooner or later by that alone.

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
    runs, n_seeds = [*arm.values(), *baseline.values()], len(arm)
    late, early = (at_common_times(runs, is_late=is_late) for is_late in (True, False))
    directions, p_values, p_by_hits = zip(*map(_log_rank, [late] if late == early else [late, early]), strict=True)
    is_exact = comb(2 * n_seeds, n_seeds) <= _MAX_DIVISIONS
    return ReachTimes(
        _median(arm),
        _median(baseline),
        units.pop(),
        directions[0] if len(set(directions)) == 1 else 0,
        max(p_values) if len(set(directions)) == 1 else 1.0,
        tuple(map(max, zip(*p_by_hits, strict=True))),
        n_seeds,
        None if is_exact else _SAMPLED_DIVISIONS,
    )


def _log_rank(runs: Sequence[Reach]) -> tuple[int, float, tuple[float, ...]]:
    """Direction, p value and `p_by_hits` of the runs, the arm's first."""
    n_seeds, scores = len(runs) // 2, _run_scores(runs)
    at_once, never = Reach(0.0, 0.0), Reach(None, max(run.last_time for run in runs))
    hypothetical = ([*[at_once] * hits, *[never] * (n_seeds - hits), *runs[n_seeds:]] for hits in range(n_seeds + 1))
    return (
        int(np.sign(scores[:n_seeds].sum().round(_DECIMALS))),
        _division_p_value(scores),
        tuple(_division_p_value(_run_scores(others)) for others in hypothetical),
    )


def deciding_hits(p_by_hits: Sequence[float], level: float) -> tuple[int | None, int | None]:
    """The largest number of seeds that is significantly few, and the smallest that is significantly many.

    The p values rise up to the number that is most like the baseline, and fall from there. Example: 0.01, 0.2, 1, 0.2,
    0.04 at 0.05: 0 and 4; at 0.02: 0 and None.
    """
    most_alike = int(np.argmax(p_by_hits))
    few = [hits for hits, p in enumerate(p_by_hits) if p < level and hits < most_alike]
    many = [hits for hits, p in enumerate(p_by_hits) if p < level and hits > most_alike]
    return max(few, default=None), min(many, default=None)


def _run_scores(runs: Sequence[Reach]) -> NDArray[np.float64]:
    return logrank_scores(
        np.array([run.last_time if run.time is None else run.time for run in runs]),
        np.array([run.time is not None for run in runs]),
    )


def logrank_scores(time_N: NDArray[np.float64], reached_N: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`reached - H(time)` of each run, H the Nelson-Aalen estimate of all runs; they sum to 0.

    Their sum over one group is the numerator of the log-rank statistic, observed minus expected events (Peto and Peto
    1972, Journal of the Royal Statistical Society A 135(2)). Example: times 1, 2, 3 and one censored at 3: H = 1/4,
    1/4 + 1/3, 1/4 + 1/3 + 1/2.
    """
    at_risk_N = (time_N[None, :] >= time_N[:, None]).sum(axis=1)
    hazard_NN = np.where((time_N[None, :] <= time_N[:, None]) & reached_N[None, :], 1 / at_risk_N[None, :], 0.0)
    return reached_N - hazard_NN.sum(axis=1)


def _division_p_value(scores_N: NDArray[np.float64]) -> float:
    """Twice the share of divisions whose first half has a sum as extreme, on the smaller side, as the first half seen.

    Scores are sorted within the halves, so that a sample of divisions does not depend on the order of the seeds.
    """
    halves = np.sort(scores_N.reshape(2, -1), axis=1).ravel()
    sums_D = halves[_divisions(len(scores_N) // 2)].sum(axis=1).round(_DECIMALS)
    return float(min(1.0, 2 * min((sums_D >= sums_D[0]).mean(), (sums_D <= sums_D[0]).mean())))


@cache
def _divisions(n_seeds: int) -> NDArray[np.int64]:
    """(D, S): the first halves of the divisions of twice S runs, the one seen first; of too many, a seeded sample.

    Example: two seeds: 0 1, 0 2, 0 3, 1 2, 1 3, 2 3.
    """
    if comb(2 * n_seeds, n_seeds) <= _MAX_DIVISIONS:
        return np.array(list(combinations(range(2 * n_seeds), n_seeds)))
    in_order = np.tile(np.arange(2 * n_seeds), (_SAMPLED_DIVISIONS, 1))
    drawn = np.random.default_rng(0).permuted(in_order, axis=1)[:, :n_seeds]
    return np.vstack([in_order[:1, :n_seeds], drawn])


def _median(runs: Mapping[int, Reach]) -> float | None:
    median = float(np.median([np.inf if run.time is None else run.time for run in runs.values()]))
    return median if np.isfinite(median) else None


def _check_seeds(arm: Mapping[int, Reach], baseline: Mapping[int, Reach]) -> None:
    if arm.keys() != baseline.keys() or not arm:
        raise ValueError(f"Seeds must be the same; the arm has {sorted(arm)} and the baseline {sorted(baseline)}.")
