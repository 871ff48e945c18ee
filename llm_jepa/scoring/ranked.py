"""Scores of rankings: mean reciprocal rank, recall at k, calibration. Pure functions of ranks and probabilities."""

from collections.abc import Sequence

NUM_BINS = 10


def mean_reciprocal_rank(ranks: Sequence[int]) -> float:
    """Mean of 1 / rank, where the best rank is 1.

    Raises:
        ValueError: There are no ranks.
    """
    _check_rows(ranks)
    return sum(1 / rank for rank in ranks) / len(ranks)


def recall_at(ranks: Sequence[int], k: int) -> float:
    """Share of ranks that are at most k.

    Raises:
        ValueError: There are no ranks.
    """
    _check_rows(ranks)
    return sum(rank <= k for rank in ranks) / len(ranks)


def expected_calibration_error(confidences: Sequence[float], are_hits: Sequence[bool]) -> float:
    """How far confidences are from the share of hits among rows of like confidence, in [0, 1].

        ECE = sum_b n_b / N * |hits_b / n_b - mean confidence_b|,  bins (0, 0.1], (0.1, 0.2], ...

    Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks", section 2.

    Raises:
        ValueError: There are no rows, their numbers differ, or a confidence is outside [0, 1].
    """
    _check_rows(confidences)
    if len(confidences) != len(are_hits):
        raise ValueError(f"{len(confidences)} confidences and {len(are_hits)} hits; give one of each per row.")
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(NUM_BINS)]
    for confidence, is_hit in zip(confidences, are_hits, strict=True):
        if not 0 <= confidence <= 1:
            raise ValueError(f"A confidence is {confidence}; it must be from 0 to 1.")
        bins[max(0, -int(-confidence * NUM_BINS // 1) - 1)].append((confidence, is_hit))
    gaps = (abs(sum(is_hit for _, is_hit in rows) - sum(confidence for confidence, _ in rows)) for rows in bins)
    return sum(gaps) / len(confidences)


def _check_rows(values: Sequence[float]) -> None:
    if not values:
        raise ValueError("There are no rows to score. Give at least one.")
