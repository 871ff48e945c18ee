"""The scores of one arm over its seeds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


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
