"""Compares arms with a baseline over paired seeds: differences, intervals, p values with Holm's correction, verdicts.

A score is a share of test rows (0 to 1); sentences give points (hundredths). Two kinds of noise are reported apart:
over seeds (other training runs, same test rows) and over test rows (same models, other rows). The p values are about
the seeds. Legend: S seeds, R test rows, P p values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

Outcome: TypeAlias = Literal["better", "worse", "no difference beyond noise", "too few to tell", "incomplete"]
Scores: TypeAlias = Mapping[str, Mapping[int, float]]
Rows: TypeAlias = Mapping[str, Mapping[int, Sequence[float]]]

SIGNIFICANCE = 0.05
MIN_SEEDS = 5
# Rounding can make equal shares differ by this much, even in single precision.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Summary:
    """Scores of one arm over its seeds. The standard deviation is the sample's (ddof=1); None for a single seed."""

    mean: float
    standard_deviation: float | None
    n_seeds: int


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval of a single comparison; Holm's correction does not widen it."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """Arm minus baseline. `mean` is over seeds. An interval is None without spread."""

    mean: float
    seed_interval: Interval | None
    p_value: float | None
    n_seeds: int
    row_interval: Interval | None = None
    n_rows: int | None = None

    @property
    def minimal_detectable_difference(self) -> float | None:
        """Half the width of the interval over seeds.

        It is the smallest mean difference that the uncorrected test would call significant at this spread. The test
        finds a true difference of this size about every other time.
        """
        return None if self.seed_interval is None else (self.seed_interval.high - self.seed_interval.low) / 2


@dataclass(frozen=True)
class Verdict:
    """One arm against its baseline. If cells are missing, `missing` names them and the figures are None."""

    arm: str
    baseline: str
    outcome: Outcome
    difference: PairedDifference | None
    adjusted_p_value: float | None
    n_comparisons: int
    missing: tuple[tuple[str, int], ...]

    @property
    def sentence(self) -> str:
        """Figures and outcome in words."""
        if self.difference is None:
            cells = ", ".join(f"{name} seed {seed}" for name, seed in self.missing)
            return f"{self.arm}: incomplete. Missing: {cells}."
        difference, p = self.difference, self.adjusted_p_value
        figures = ["95 % CI " + _over(difference.n_seeds, "seed", difference.seed_interval)]
        if difference.n_rows is not None:
            figures.append(_over(difference.n_rows, "test row", difference.row_interval))
        if p is not None:
            shown_p = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
            figures.append(f"{shown_p} after Holm over {self.n_comparisons} arm{'s' * (self.n_comparisons != 1)}")
        text = f"{self.arm}: {_points(difference.mean)} points ({'; '.join(figures)}): {self.outcome}."
        if (detectable := difference.minimal_detectable_difference) is not None:
            text += f" These seeds can show, before Holm, about {100 * detectable:.1f} points or more."
        return text


def summarise(scores: Mapping[int, float]) -> Summary:
    """Mean and spread of one arm's scores by seed. ValueError if there are none or one is not finite."""
    scores_S = _finite(list(scores.values()), f"The arm's scores at seeds {list(scores)}")
    deviation = float(scores_S.std(ddof=1)) if len(scores_S) > 1 else None
    return Summary(float(scores_S.mean()), deviation, len(scores_S))


def paired_difference(arm: Mapping[int, float], baseline: Mapping[int, float]) -> PairedDifference:
    """Arm minus baseline, paired by seed: `t = mean / (sd / sqrt(S))` with S - 1 degrees of freedom, two-sided.

    Without spread (all differences equal up to rounding) t does not exist and the interval is None. If all differences
    are zero, p = 1. A constant difference gets the p value of the exact sign-flip test, `2^(1 - S)`, which needs no
    variance; the limit p = 0 would claim certainty where seeds changed nothing. A single seed has no p value.
    ValueError if the seeds differ, there are none, or a score is not finite.
    """
    if arm.keys() != baseline.keys():
        raise ValueError(f"Seeds must be paired; the arm has {sorted(arm)} and the baseline {sorted(baseline)}.")
    difference_S = _finite([arm[seed] - baseline[seed] for seed in arm], f"The differences at seeds {list(arm)}")
    mean, n, p = float(difference_S.mean()), len(difference_S), None
    if _has_spread(difference_S):
        p = float(2 * stdtr(n - 1, -abs(mean) / (difference_S.std(ddof=1) / n**0.5)))
    elif n > 1:
        p = 1.0 if abs(mean) <= _ROUNDING else 2.0 ** (1 - n)
    return PairedDifference(mean, _t_interval(difference_S), p, n)


def row_interval(arm_SR: ArrayLike, baseline_SR: ArrayLike) -> Interval | None:
    """Interval over test rows of the mean difference between the trained models; row r is the same test row in both.

    Each row's difference is first averaged over seeds, which share the rows; then `mean +- t * sd / sqrt(R)`. A paired
    bootstrap over rows converges to the same interval, but needs thousands of draws and its own seed. The interval is
    approximate: too narrow if the models differ on fewer than about five rows; None if all rows differ equally.
    ValueError if the shapes differ, are not (seeds, rows), or a value is not finite.
    """
    arm, baseline = _finite(arm_SR, "The arm's rows"), _finite(baseline_SR, "The baseline's rows")
    if arm.shape != baseline.shape or arm.ndim != 2:
        raise ValueError(
            f"Rows must be (seeds, rows), the same for both; the shapes are {arm.shape}, {baseline.shape}."
        )
    return _t_interval((arm - baseline).mean(axis=0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the given order; i-th smallest: `max over j <= i of min(1, (P - j + 1) p_(j))`.

    Rejecting adjusted values below 0.05 keeps the chance of any false rejection at or below 0.05, whatever the
    dependence between the tests. Holm 1979, Scandinavian Journal of Statistics 6(2). ValueError if a p value is
    not between 0 and 1.
    """
    p_P = np.asarray(p_values, dtype=float)
    if not ((p_P >= 0) & (p_P <= 1)).all():
        raise ValueError(f"p values lie between 0 and 1; given: {list(p_values)}.")
    ascending = np.argsort(p_P)
    adjusted_P = np.empty_like(p_P)
    adjusted_P[ascending] = np.maximum.accumulate(np.minimum(1, np.arange(len(p_P), 0, -1) * p_P[ascending]))
    return adjusted_P.tolist()


def verdicts(
    scores: Scores,
    *,
    arms: Sequence[str],
    baseline: str | Mapping[str, str],
    seeds: Sequence[int],
    rows: Rows | None = None,
    higher_is_better: bool = True,
) -> dict[str, Verdict]:
    """The verdict of each arm against its baseline by one score; the arms are one family of comparisons.

    The verdict is "incomplete" if a cell is missing, and "too few to tell" with fewer than five seeds, or if every
    seed has the same non-zero difference and it is not significant. "better" and "worse" need an adjusted p < 0.05. A
    comparison without a p value counts as p = 1 in Holm's correction. Cells that finish later can then only lower the
    adjusted p values of the others, so no "better" is revoked.

    Args:
        scores: Arm -> seed -> score of the finished cells; others than `arms`, `baseline` and `seeds` are ignored.
        arms: All declared arms except the baselines, finished or not.
        baseline: The baseline of all arms, or arm -> its baseline.
        seeds: All declared seeds.
        rows: Arm -> seed -> correctness of each test row, in the same order; a score is the mean of its rows.
        higher_is_better: False for a score such as the cap rate.

    Raises:
        ValueError: An arm or seed is declared twice, there are none, a value is not finite, or rows and scores differ.
    """
    baselines = dict.fromkeys(arms, baseline) if isinstance(baseline, str) else dict(baseline)
    names = [*dict.fromkeys(baselines[arm] for arm in arms), *arms]
    if not arms or not seeds or len(set(names)) < len(names) or len(set(seeds)) < len(seeds):
        raise ValueError(f"Name one or more arms beside the baseline, and seeds, each once; given: {names}, {seeds}.")
    tables: list[Mapping[str, Mapping[int, object]]] = [scores] if rows is None else [scores, rows]
    cells = [(name, seed) for name in names for seed in seeds]
    absent = [cell for cell in cells if any(table.get(cell[0], {}).get(cell[1]) is None for table in tables)]
    _check_cells(scores, rows, [cell for cell in cells if cell not in absent])
    missing = {arm: tuple(cell for cell in absent if cell[0] in (baselines[arm], arm)) for arm in arms}
    differences = {arm: None if missing[arm] else _compare(arm, baselines[arm], seeds, scores, rows) for arm in arms}
    p_values = [None if difference is None else difference.p_value for difference in differences.values()]
    adjusted = holm([1.0 if p is None else p for p in p_values])
    result = {}
    for (arm, difference), p, adjusted_p in zip(differences.items(), p_values, adjusted, strict=True):
        outcome, shown_p = _outcome(difference, adjusted_p, higher_is_better), None if p is None else adjusted_p
        result[arm] = Verdict(arm, baselines[arm], outcome, difference, shown_p, len(arms), missing[arm])
    return result


def _finite(values: ArrayLike, what: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=float)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{what} must be finite numbers, at least one; given: {array}.")
    return array


def _check_cells(scores: Scores, rows: Rows | None, cells: list[tuple[str, int]]) -> None:
    n_rows = {}
    for arm, seed in cells:
        where = f"arm '{arm}', seed {seed}"
        score = _finite(scores[arm][seed], f"The score of {where}")
        if rows is not None:
            rows_R = _finite(rows[arm][seed], f"The rows of {where}")
            n_rows[arm, seed] = len(rows_R)
            if abs(rows_R.mean() - score) > _ROUNDING:
                raise ValueError(f"The score of {where} must be its rows' mean; given: {score} and {rows_R.mean()}.")
    if len(set(n_rows.values())) > 1:
        raise ValueError(f"Every arm and seed needs the same test rows; the numbers of rows are {n_rows}.")


def _compare(arm: str, baseline: str, seeds: Sequence[int], scores: Scores, rows: Rows | None) -> PairedDifference:
    arm_scores, baseline_scores = ({seed: scores[name][seed] for seed in seeds} for name in (arm, baseline))
    difference = paired_difference(arm_scores, baseline_scores)
    if rows is None:
        return difference
    arm_SR, baseline_SR = ([rows[name][seed] for seed in seeds] for name in (arm, baseline))
    return replace(difference, row_interval=row_interval(arm_SR, baseline_SR), n_rows=len(arm_SR[0]))


def _has_spread(values: NDArray[np.float64]) -> bool:
    return bool(np.ptp(values) > _ROUNDING)


def _t_interval(values: NDArray[np.float64]) -> Interval | None:
    if not _has_spread(values):
        return None
    half_width = stdtrit(len(values) - 1, 1 - SIGNIFICANCE / 2) * values.std(ddof=1) / len(values) ** 0.5
    return Interval(float(values.mean() - half_width), float(values.mean() + half_width))


def _outcome(difference: PairedDifference | None, adjusted_p: float, higher_is_better: bool) -> Outcome:
    if difference is None:
        return "incomplete"
    if difference.n_seeds < MIN_SEEDS:
        return "too few to tell"
    if adjusted_p < SIGNIFICANCE:
        return "better" if (difference.mean > 0) == higher_is_better else "worse"
    constant = difference.seed_interval is None and abs(difference.mean) > _ROUNDING
    return "too few to tell" if constant else "no difference beyond noise"


def _over(n: int, noun: str, interval: Interval | None) -> str:
    shown = "none" if interval is None else f"{_points(interval.low)} to {_points(interval.high)}"
    return f"{shown} over {n} {noun}{'s' * (n != 1)}"


def _points(share: float) -> str:
    return f"{100 * share:+z.1f}"
