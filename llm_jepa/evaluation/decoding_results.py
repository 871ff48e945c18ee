"""Measures a decoding: accuracy, ranks, calibration, latency of single requests, and throughput."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_jepa.evaluation.decodings import Decoding
from llm_jepa.evaluation.interleaving import timed
from llm_jepa.evaluation.peak_memory import PeakMemory
from llm_jepa.inference.ranking import pessimistic_ranks
from llm_jepa.scoring.ranked import expected_calibration_error, mean_reciprocal_rank, recall_at
from llm_jepa.scoring.tasks import Rate

RECALLS = (1, 5, 10)
WARM_UP_ROWS, TIMED_ROWS = 2, 32


@dataclass(frozen=True)
class DecodingResult:
    """What one decoding does on the held-out rows.

    Attributes:
        name: That of the decoding.
        scores: For each row, those of its candidates.
        ranks: The rank of each row's gold, from 1; candidates that score as much count as nearer.
        calibration_error: ECE of the softmax of the scores; None if they are no probabilities.
        latency_seconds: Of single requests, the first rows, after a warm-up.
        requests_per_second: Over all rows, in batches.
        peak_memory_bytes: As `PeakMemory` finds it.
    """

    name: str
    scores: list[NDArray]
    ranks: list[int]
    calibration_error: float | None
    latency_seconds: list[float]
    requests_per_second: float
    peak_memory_bytes: int

    @property
    def accuracy(self) -> Rate:
        """Rows whose gold alone scores highest."""
        return Rate(sum(rank == 1 for rank in self.ranks), len(self.ranks))

    def report(self) -> dict[str, Any]:
        """The figures as JSON."""
        rate, latency = self.accuracy, np.array(self.latency_seconds)
        return {
            "accuracy": {"hits": rate.hits, "count": rate.count, "interval": rate.interval},
            "mean_reciprocal_rank": mean_reciprocal_rank(self.ranks),
            "recall": {str(k): recall_at(self.ranks, k) for k in RECALLS},
            "calibration_error": self.calibration_error,
            "latency_p50_seconds": float(np.quantile(latency, 0.5)),
            "latency_p95_seconds": float(np.quantile(latency, 0.95)),
            "timed_requests": len(latency),
            "requests_per_second": self.requests_per_second,
            "peak_memory_bytes": self.peak_memory_bytes,
        }


def measure(
    decoding: Decoding, progress: Callable[[int], None] = lambda number: None, timed_rows: int = TIMED_ROWS
) -> DecodingResult:
    """Score all rows in batches, then time single requests.

    Args:
        progress: Called after each batch with its number of rows.
        timed_rows: How many rows are asked one by one.
    """
    with PeakMemory() as memory:
        scores, seconds = _all_scores(decoding, progress)
        latency_seconds = _single_requests(decoding, timed_rows)
    task = decoding.task
    ranks = [rank_of_gold(score_R, gold) for score_R, gold in zip(scores, task.gold, strict=True)]
    error = _calibration_error(scores, ranks, decoding.temperature)
    requests_per_second = len(task.rows) / seconds
    return DecodingResult(decoding.name, scores, ranks, error, latency_seconds, requests_per_second, memory.peak_bytes)


def _all_scores(decoding: Decoding, progress: Callable[[int], None]) -> tuple[list[NDArray], float]:
    """The scores of all rows, in batches, and the seconds that they took."""
    scores, seconds, num_rows, size = [], 0.0, len(decoding.task.rows), decoding.batch_size
    for start in range(0, num_rows, size):
        batch = range(start, min(start + size, num_rows))
        found, elapsed = timed_scores(decoding, batch)
        scores += found
        seconds += elapsed
        progress(len(batch))
    return scores, seconds


def _single_requests(decoding: Decoding, timed_rows: int) -> list[float]:
    """The seconds of the first rows, asked one by one after a warm-up."""
    rows = range(min(len(decoding.task.rows), timed_rows))
    for index in rows[:WARM_UP_ROWS]:
        timed_scores(decoding, [index])
    return [timed_scores(decoding, [index])[1] for index in rows]


def rank_of_gold(score_R: NDArray, gold: int) -> int:
    """The rank of a row's gold, from 1; candidates that score as much count as nearer."""
    return int(pessimistic_ranks(score_R[None], np.array([gold]))[0])


def timed_scores(decoding: Decoding, indices: Sequence[int]) -> tuple[list[NDArray], float]:
    """The scores of some rows, and the seconds that they took."""
    return timed(lambda: decoding.scores(indices))


def _calibration_error(scores: Sequence[NDArray], ranks: Sequence[int], temperature: float | None) -> float | None:
    if temperature is None:
        return None
    confidences = [highest_probability(score_R, temperature) for score_R in scores]
    return expected_calibration_error(confidences, [rank == 1 for rank in ranks])


def highest_probability(score_R: NDArray, temperature: float) -> float:
    """The highest of the probabilities softmax(score / temperature)."""
    logit_R = score_R / temperature
    return float(1 / np.exp(logit_R - logit_R.max()).sum())
