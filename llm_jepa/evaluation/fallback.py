"""Latent answers with a fallback: where the two best candidates are closer than a margin, the answer is generated.

Pure functions of what each decoding did on the same rows.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FallbackPoint:
    """What one margin does.

    Attributes:
        margin: Rows whose two best scores differ by less are generated; infinity generates every row.
        share_generated: Share of rows that are.
        accuracy: Share of rows that are answered rightly.
        seconds: Mean latency of a request: that of the latent answer, and of generation where it follows.
    """

    margin: float
    share_generated: float
    accuracy: float
    seconds: float

    def report(self) -> dict[str, Any]:
        """The figures as JSON, which has no infinity: a margin of None generates every row."""
        return asdict(self) | {"margin": self.margin if math.isfinite(self.margin) else None}


def margins_of(scores: Sequence[NDArray]) -> NDArray:
    """The difference of the two highest scores of each row: margin_N. Ties have margin 0.

    Raises:
        ValueError: A row has a single score.
    """
    if any(len(score_R) < 2 for score_R in scores):
        raise ValueError("A margin is between two candidates; a row has one. Give each row two.")
    best = [np.sort(score_R)[-2:] for score_R in scores]
    return np.array([high - low for low, high in best])


def fallback_point(
    margin: float,
    margin_N: NDArray,
    latent_hit_N: NDArray,
    generate_hit_N: NDArray,
    latent_seconds: float,
    generate_seconds: float,
) -> FallbackPoint:
    """What a margin does, by each row's margin and whether each decoding answers it rightly."""
    is_generated_N = margin_N < margin
    share = float(is_generated_N.mean())
    accuracy = float(np.where(is_generated_N, generate_hit_N, latent_hit_N).mean())
    return FallbackPoint(margin, share, accuracy, latent_seconds + share * generate_seconds)


def fallback_curve(
    margin_N: NDArray,
    latent_hit_N: NDArray,
    generate_hit_N: NDArray,
    latent_seconds: float,
    generate_seconds: float,
) -> list[FallbackPoint]:
    """The points of every margin that changes what is generated, from 0 to infinity: none to all rows."""
    return [
        fallback_point(float(margin), margin_N, latent_hit_N, generate_hit_N, latent_seconds, generate_seconds)
        for margin in [0.0, *np.unique(margin_N)[1:], math.inf]
    ]


def best_margin(curve: Sequence[FallbackPoint]) -> float:
    """The margin of highest accuracy; of equal ones that which generates least."""
    return max(curve, key=lambda point: (point.accuracy, -point.share_generated)).margin
