"""Holm's correction of p values."""

from collections.abc import Sequence

import numpy as np


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
