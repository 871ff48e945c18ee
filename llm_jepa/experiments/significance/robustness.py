"""How much a "better" or "worse" rests on one seed, and on the t distribution."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from llm_jepa.experiments.significance.paired import PairedDifference
from llm_jepa.experiments.significance.verdicts import (
    SIGNIFICANCE,
    Contrast,
    Reaches,
    Rows,
    Verdict,
    verdicts,
)
from llm_jepa.experiments.significance.words import p_equation, p_in_words, p_range

# Of more seeds a seeded sample of sign patterns.
_MAX_SEEDS = 16
_SAMPLED_PATTERNS = 99_999
# Equal sums can differ by rounding beyond this.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Robustness:
    """What becomes of a verdict with other seeds, or by a test that assumes no distribution.

    Attributes:
        p_without_seed: Seed -> p value after Holm's correction of the other seeds' whole family.
        mean_without_seed: Seed -> mean difference of the other seeds, in shares of rows.
        sign_flip_p_value: See `sign_flip_p_value`; not corrected.
        n_comparisons: Number of comparisons in the family.
    """

    p_without_seed: dict[int, float]
    mean_without_seed: dict[int, float]
    sign_flip_p_value: float
    n_comparisons: int

    @property
    def corrected_sign_flip(self) -> float:
        """The sign-flip test's p value at the first step of Holm's correction, `min(1, P p)`."""
        return min(1.0, self.n_comparisons * self.sign_flip_p_value)

    @property
    def sentence(self) -> str:
        """Both in words."""
        p_values, n_seeds = self.p_without_seed.values(), len(self.p_without_seed)
        lost = [str(seed) for seed, p in self.p_without_seed.items() if p >= SIGNIFICANCE]
        kept = [str(seed) for seed, p in self.p_without_seed.items() if p < SIGNIFICANCE]
        without = f"Without any one seed p is {p_range(p_values)}"
        if not kept:
            without += f", never below {SIGNIFICANCE}"
        elif lost:
            which = f"except without {_listed(lost)}" if len(lost) <= len(kept) else f"only without {_listed(kept)}"
            without += f", below {SIGNIFICANCE} {which}"
        least = ", the least that so many seeds can have" if self.sign_flip_p_value <= 2.0 ** (1 - n_seeds) else ""
        flipped = (
            f"{p_equation(self.sign_flip_p_value)}, {p_in_words(self.corrected_sign_flip)} after correction{least}"
        )
        return f"{without}. The sign-flip test over {n_seeds} seeds has {flipped}."


def sign_flip_p_value(differences: Sequence[float]) -> float:
    """Two-sided p value of the mean of S differences if each is as likely to have the other sign.

    The share of the 2^S patterns of signs whose sum is as far from 0; it is never below 2^(1 - S). Exact up to 16
    seeds; of more, from a sample of patterns with the one seen among them. Fisher 1935, The Design of Experiments.
    Example: 1, 2: the sums are 3, 1, -1, -3, two of four as far from 0 as 3: 0.5.
    """
    values_S = np.asarray(differences, dtype=float)
    if len(values_S) <= _MAX_SEEDS:
        signs_PS = np.array(list(product((1, -1), repeat=len(values_S))))
    else:
        drawn = np.random.default_rng(0).choice((1, -1), size=(_SAMPLED_PATTERNS, len(values_S)))
        signs_PS = np.vstack([np.ones((1, len(values_S)), dtype=int), drawn])
    return float((abs(signs_PS @ values_S) >= abs(values_S.sum()) - _ROUNDING).mean())


def robustness(
    found: Sequence[Verdict],
    contrasts: Sequence[Contrast],
    rows: Rows,
    seeds: Sequence[int],
    *,
    clusters: Sequence[Hashable] | None = None,
    reaches: Reaches | None = None,
    declared: Sequence[tuple[Contrast, str]] = (),
) -> list[Robustness | None]:
    """For each contrast's verdict by the mean score; None where that is neither "better" nor "worse".

    Args:
        found: The verdicts by the mean score, in the order of the contrasts.
        contrasts: As for `verdicts`, and so all that follow.
    """
    decided = [verdict.outcome in ("better", "worse") for verdict in found]
    if not any(decided):
        return [None] * len(found)
    without = {
        left_out: verdicts(
            contrasts,
            rows,
            [seed for seed in seeds if seed != left_out],
            clusters=clusters,
            reaches=reaches,
            declared=declared,
        )
        for left_out in seeds
    }
    return [
        _of_one(verdict, {seed: others[index] for seed, others in without.items()}, rows) if is_decided else None
        for index, (verdict, is_decided) in enumerate(zip(found, decided, strict=True))
    ]


def _of_one(verdict: Verdict, without: Mapping[int, Verdict], rows: Rows) -> Robustness:
    p_values = {seed: other.adjusted_p_value for seed, other in without.items()}
    return Robustness(
        {seed: 1.0 if p is None else p for seed, p in p_values.items()},
        {
            seed: other.difference.mean
            for seed, other in without.items()
            if isinstance(other.difference, PairedDifference)
        },
        sign_flip_p_value([_mean_difference(rows, verdict, seed) for seed in without]),
        verdict.n_comparisons,
    )


def _mean_difference(rows: Rows, verdict: Verdict, seed: int) -> float:
    """Of one seed, over the rows that the score counts."""
    arm, baseline = (np.array(rows[name][seed], dtype=float) for name in (verdict.arm, verdict.baseline))
    return float(np.nanmean(arm - baseline))


def _listed(names: Sequence[str]) -> str:
    """a, b or c."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
