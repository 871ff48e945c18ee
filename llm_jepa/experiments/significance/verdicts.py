"""Verdicts: what a report may claim from its contrasts, all of them one family under Holm's correction."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llm_jepa.experiments.significance.holm import holm
from llm_jepa.experiments.significance.paired import PairedDifference, paired_difference
from llm_jepa.experiments.significance.threshold import (
    Reach,
    ReachedShares,
    ReachTimes,
    deciding_hits,
    reach_times,
    reached_shares,
)
from llm_jepa.experiments.significance.words import p_equation

Outcome: TypeAlias = Literal["better", "worse", "no difference found", "too few to tell", "incomplete", "descriptive"]
Measure: TypeAlias = Literal["score", "share of seeds", "time"]
"""What is compared: the mean score, the seeds that reach the threshold, or the time to it."""
Rows: TypeAlias = Mapping[str, Mapping[int, Sequence[float | None]]]
Reaches: TypeAlias = Mapping[str, Mapping[str, Mapping[int, Reach]]]

SIGNIFICANCE = 0.05
MIN_SEEDS = 5


@dataclass(frozen=True)
class Contrast:
    """A comparison of an arm with the baseline of a budget, such as equal steps or equal FLOPs. All are names."""

    arm: str
    baseline: str
    budget: str


@dataclass(frozen=True)
class Verdict:
    """What a contrast shows.

    Attributes:
        arm: As in the contrast.
        baseline: As in the contrast.
        budget: As in the contrast.
        measure: What is compared.
        outcome: The verdict; "descriptive" where nothing is claimed.
        difference: The figures; None if cells are missing.
        adjusted_p_value: After Holm's correction; None without a p value, and where nothing is claimed.
        n_comparisons: Number of comparisons in the family.
        detectable_difference: The true difference in score that these seeds and rows find with 80 % probability if it
            has to pass the first step of Holm's correction. None without a standard error, and with fewer than five
            seeds, which find nothing.
        missing: The series and seeds without a result.
    """

    arm: str
    baseline: str
    budget: str
    measure: Measure
    outcome: Outcome
    difference: PairedDifference | ReachedShares | ReachTimes | None
    adjusted_p_value: float | None
    n_comparisons: int
    detectable_difference: float | None
    missing: tuple[tuple[str, int], ...]

    @property
    def sentence(self) -> str:
        """Figures and outcome in words."""
        named = f"{self.arm} against {self.baseline}"
        if self.difference is None:
            return f"{named}: incomplete. Missing: {'; '.join(_seeds_by_series(self.missing))}."
        text, p = f"{named}: {self.difference.figures}", self.adjusted_p_value
        if p is not None:
            text += (
                f", {p_equation(p)} after Holm over {self.n_comparisons} comparison{'s' * (self.n_comparisons != 1)}"
            )
        return f"{text}: {self.outcome}.{self._would_be_found()}"

    def _would_be_found(self) -> str:
        """What these seeds and rows would find, in words."""
        difference, detectable = self.difference, self.detectable_difference
        if isinstance(difference, PairedDifference):
            if detectable is None:
                return ""
            if detectable > difference.largest_possible:
                gain, loss = 100 * (1 - difference.baseline_mean), 100 * difference.baseline_mean
                possible = f"the largest possible gain is {gain:.1f} points, the largest loss {loss:.1f}"
                return f" No true difference would be found with 80 % probability: {possible}."
            shown = f"{100 * detectable:.1f} points"
            return f" These seeds and rows would find a true difference of {shown} with 80 % probability."
        if difference is None or difference.n_seeds < MIN_SEEDS or self.outcome in ("better", "worse"):
            return ""
        few, many = deciding_hits(difference.p_by_hits, SIGNIFICANCE / self.n_comparisons)
        of, total = f"of the arm's {difference.n_seeds} seeds", difference.n_seeds
        if few is None and many is None:
            return f" No number {of} would be found to differ."
        hits = [] if few is None else ["none" if few == 0 else f"at most {few}"]
        hits += [] if many is None else ["all" if many == total else f"at least {many}"]
        if self.measure == "time":  # other orders of the two arms' seeds may be found too
            return f" A difference would be found with {' or '.join(hits)} {of} there before the baseline's first."
        return f" A difference would be found only with {' or '.join(hits)} {of}."


def _seeds_by_series(cells: Sequence[tuple[str, int]]) -> list[str]:
    """Example: (a, 1), (b, 1), (a, 2) are `a seeds 1, 2` and `b seed 1`."""
    seeds: dict[str, list[str]] = {}
    for name, seed in cells:
        seeds.setdefault(name, []).append(str(seed))
    return [f"{name} seed{'s' * (len(numbers) > 1)} {', '.join(numbers)}" for name, numbers in seeds.items()]


@dataclass(frozen=True)
class _Claim:
    """A contrast's figures before Holm's correction. Contrasts with the same key compare the same cells."""

    contrast: Contrast
    measure: Measure
    difference: PairedDifference | ReachedShares | ReachTimes | None
    missing: tuple[tuple[str, int], ...]

    @property
    def key(self) -> tuple[str, ...]:
        return _key(self.contrast, self.measure)

    @property
    def p_value(self) -> float | None:
        return None if self.difference is None else self.difference.p_value


def _key(contrast: Contrast, measure: str) -> tuple[str, ...]:
    return measure, contrast.arm, contrast.baseline


def verdicts(
    contrasts: Sequence[Contrast],
    rows: Rows,
    seeds: Sequence[int],
    *,
    clusters: Sequence[Hashable] | None = None,
    higher_is_better: bool = True,
    reaches: Reaches | None = None,
    declared: Sequence[tuple[Contrast, str]] = (),
) -> list[Verdict]:
    """The verdict of each contrast by one score; all of them, and those by the threshold, are one Holm family.

    The outcome is "incomplete" if a cell is missing. "better" and "worse" need five seeds and an adjusted p < 0.05. It
    is "too few to tell" with fewer seeds, without a p value, if all seeds have the same non-zero difference, if the
    detectable difference is larger than any possible one, or if no result of a threshold could be significant. Two
    contrasts of the same arm and baseline (where equal FLOPs are equal steps) are one comparison. A comparison without
    a p value counts as p = 1. Cells that finish later can then only lower the adjusted p values of the others, so no
    "better" is revoked.

    Args:
        contrasts: All declared contrasts, finished or not.
        rows: Series -> seed -> score of each test row of the finished cells, in the same order; None where the score
            does not count the row. Other series and seeds are ignored.
        seeds: All declared seeds.
        clusters: The cluster of each test row; None if the rows are independent.
        higher_is_better: False for a score such as the cap rate.
        reaches: Budget -> series -> seed -> when the run reached the threshold; None without a threshold. A contrast
            that several budgets have is judged by the first of them.
        declared: Comparisons that were declared at any time, each by a measure or one that was withdrawn. Those that
            are not among the contrasts' own stay in the family with p = 1.

    Returns:
        Verdicts by the mean score, in the order of the contrasts; with a threshold, then those by the share of seeds
        that reach it, and then those by the time to it, in the same order.

    Raises:
        ValueError: A contrast or seed is declared twice, there are none, a value is not finite, or the cells have
            different rows.
    """
    claims = _score_claims(contrasts, rows, seeds, clusters)
    if reaches is not None:
        claims += _threshold_claims(contrasts, reaches, seeds, "share of seeds")
        claims += _threshold_claims(contrasts, reaches, seeds, "time")
    withdrawn = {_key(contrast, measure): 1.0 for contrast, measure in declared}
    p_values = withdrawn | {claim.key: 1.0 if claim.p_value is None else claim.p_value for claim in claims}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return [_verdict(claim, adjusted[claim.key], len(p_values), higher_is_better) for claim in claims]


def descriptions(
    contrasts: Sequence[Contrast], rows: Rows, seeds: Sequence[int], *, clusters: Sequence[Hashable] | None = None
) -> list[Verdict]:
    """The figures of each contrast by a score from which nothing is claimed: intervals, and no p value."""
    return [
        Verdict(
            **vars(claim.contrast),
            measure="score",
            outcome="incomplete" if claim.difference is None else "descriptive",
            difference=claim.difference,
            adjusted_p_value=None,
            n_comparisons=0,
            detectable_difference=None,
            missing=claim.missing,
        )
        for claim in _score_claims(contrasts, rows, seeds, clusters)
    ]


def _verdict(claim: _Claim, adjusted_p: float, n_comparisons: int, higher_is_better: bool) -> Verdict:
    difference, detectable = claim.difference, None
    if isinstance(difference, PairedDifference) and difference.n_seeds >= MIN_SEEDS:
        detectable = difference.detectable_difference(SIGNIFICANCE / n_comparisons)
    return Verdict(
        **vars(claim.contrast),
        measure=claim.measure,
        outcome=_outcome(difference, adjusted_p, n_comparisons, higher_is_better, detectable),
        difference=difference,
        adjusted_p_value=None if claim.p_value is None else adjusted_p,
        n_comparisons=n_comparisons,
        detectable_difference=detectable,
        missing=claim.missing,
    )


def _outcome(
    difference: PairedDifference | ReachedShares | ReachTimes | None,
    adjusted_p: float,
    n_comparisons: int,
    higher_is_better: bool,
    detectable: float | None,
) -> Outcome:
    if difference is None:
        return "incomplete"
    if difference.n_seeds < MIN_SEEDS or difference.p_value is None:
        return "too few to tell"
    is_score = isinstance(difference, PairedDifference)
    if isinstance(difference, PairedDifference) and not difference.seeds_differ and difference.direction != 0:
        return "too few to tell"  # one run counted several times would look like this
    if adjusted_p < SIGNIFICANCE:
        return "better" if (difference.direction > 0) == (higher_is_better or not is_score) else "worse"
    if isinstance(difference, PairedDifference):
        is_decidable = (detectable or 0.0) <= difference.largest_possible
    else:
        is_decidable = deciding_hits(difference.p_by_hits, SIGNIFICANCE / n_comparisons) != (None, None)
    return "no difference found" if is_decidable else "too few to tell"


def _score_claims(
    contrasts: Sequence[Contrast], rows: Rows, seeds: Sequence[int], clusters: Sequence[Hashable] | None
) -> list[_Claim]:
    _check_declared(contrasts, seeds)
    series = {name for contrast in contrasts for name in (contrast.arm, contrast.baseline)}
    found = {name: {seed: cell for seed, cell in rows.get(name, {}).items() if seed in seeds} for name in series}
    counted, cells = _counted_cells(found)
    if clusters is not None and cells:
        if len(clusters) != len(counted):
            raise ValueError(f"Each test row needs a cluster; {len(counted)} rows, {len(clusters)} clusters.")
        clusters = [cluster for cluster, is_counted in zip(clusters, counted, strict=True) if is_counted]
    claims = []
    for contrast in contrasts:
        missing = _missing(contrast, found, seeds)
        difference = None
        if not missing:
            arm, baseline = ([cells[name, seed] for seed in seeds] for name in (contrast.arm, contrast.baseline))
            difference = paired_difference(arm, baseline, clusters)
        claims.append(_Claim(contrast, "score", difference, missing))
    return claims


def _threshold_claims(
    contrasts: Sequence[Contrast], reaches: Reaches, seeds: Sequence[int], measure: Measure
) -> list[_Claim]:
    compare = reached_shares if measure == "share of seeds" else reach_times
    claims, first_budget = [], dict[tuple[str, str], str]()
    for contrast in contrasts:
        budget = first_budget.setdefault((contrast.arm, contrast.baseline), contrast.budget)
        found = reaches.get(budget, {})
        missing, difference = _missing(contrast, found, seeds), None
        if not missing:
            arm, baseline = ({seed: found[name][seed] for seed in seeds} for name in (contrast.arm, contrast.baseline))
            difference = compare(arm, baseline)
        claims.append(_Claim(contrast, measure, difference, missing))
    return claims


def _check_declared(contrasts: Sequence[Contrast], seeds: Sequence[int]) -> None:
    is_once = len(set(contrasts)) == len(contrasts) and len(set(seeds)) == len(seeds)
    if not contrasts or not seeds or not is_once or any(contrast.arm == contrast.baseline for contrast in contrasts):
        raise ValueError(
            "Name one or more contrasts of an arm with another series as its baseline, and seeds, each once; given: "
            f"{list(contrasts)}, {list(seeds)}."
        )


def _missing(
    contrast: Contrast, found: Mapping[str, Mapping[int, object]], seeds: Sequence[int]
) -> tuple[tuple[str, int], ...]:
    return tuple(
        (name, seed) for name in (contrast.baseline, contrast.arm) for seed in seeds if seed not in found.get(name, {})
    )


def _counted_cells(
    found: Mapping[str, Mapping[int, Sequence[float | None]]],
) -> tuple[NDArray[np.bool_], dict[tuple[str, int], NDArray[np.float64]]]:
    """Which rows the score counts, and the values of those rows by series and seed."""
    counted, cells = None, {}
    for name, by_seed in found.items():
        for seed, cell in by_seed.items():
            where = f"arm '{name}', seed {seed}"
            values = np.array(cell, dtype=float)  # None becomes NaN
            is_counted = (
                np.array([value is not None for value in cell])
                if np.isnan(values).any()
                else np.ones(len(values), bool)
            )
            if counted is None:
                counted = is_counted
            if not np.array_equal(counted, is_counted):
                raise ValueError(
                    f"Every arm and seed needs the same test rows; {where} has {is_counted.sum()} counted rows of "
                    f"{len(is_counted)}, another cell {counted.sum()} of {len(counted)}, or they are other rows."
                )
            values = values[is_counted]
            if values.size == 0 or not np.isfinite(values).all():
                raise ValueError(f"The rows of {where} must be finite numbers, at least one; given: {values}.")
            cells[name, seed] = values
    return np.array([], dtype=bool) if counted is None else counted, cells
