"""Cosines, ranks and nearest answers: pure functions of arrays. Imports no torch.

Legend: Q queries, N answers, D the width, K answers found.
"""

import numpy as np
from numpy.typing import NDArray

TIE = 1e-6
"""Cosines of equal rows can differ by this much in a float32 matrix product, so a smaller difference is a tie."""


def unit_rows(embedding_ND: NDArray) -> NDArray:
    """Rows of length 1 in float32; a row of zeros stays zero."""
    norm_N1 = np.linalg.norm(embedding_ND, axis=1, keepdims=True)
    return (embedding_ND / np.maximum(norm_N1, 1e-30)).astype(np.float32)


def nearest(score_QN: NDArray, k: int) -> NDArray:
    """The positions of the k highest scores of each query, highest first, the first of equal ones first: index_QK."""
    k = min(k, score_QN.shape[1])
    if k == score_QN.shape[1]:
        return np.argsort(-score_QN, axis=1, kind="stable")
    lowest_Q1 = -np.partition(-score_QN, k - 1, axis=1)[:, k - 1 : k]
    return np.stack([_highest(score_N, lowest, k) for score_N, lowest in zip(score_QN, lowest_Q1[:, 0], strict=True)])


def _highest(score_N: NDArray, lowest: float, k: int) -> NDArray:
    """Example: scores .5 .9 .5 with k = 2 have the lowest score .5, positions 0 1 2, and the result 1 0."""
    candidates = np.flatnonzero(score_N >= lowest)
    return candidates[np.argsort(-score_N[candidates], kind="stable")[:k]]


def num_equal(score_QN: NDArray, found_QK: NDArray) -> NDArray:
    """How many other answers have the score of each one found: count_QK."""
    score_QK = np.take_along_axis(score_QN, found_QK, axis=1)
    pairs = zip(score_QN, score_QK, strict=True)
    return np.stack([_counts_near(np.sort(score_N), score_K) - 1 for score_N, score_K in pairs])


def _counts_near(sorted_N: NDArray, score_K: NDArray) -> NDArray:
    high = np.searchsorted(sorted_N, score_K + TIE, side="right")
    return high - np.searchsorted(sorted_N, score_K - TIE, side="left")


def pessimistic_ranks(score_QN: NDArray, gold_Q: NDArray) -> NDArray:
    """The rank of each query's gold answer, from 1; answers that score as much count as nearer: rank_Q.

    Example: scores .2 .7 .7 with the gold at 1 give rank 2; if all scores are equal, the gold is last.

    Raises:
        ValueError: A score is not a number.
    """
    if np.isnan(score_QN).any():
        raise ValueError(
            f"{np.isnan(score_QN).any(axis=1).sum()} of {len(score_QN)} rows have scores that are not numbers, so "
            "they rank nothing. Half precision overflows so: compute in float32 or bfloat16."
        )
    gold_Q1 = np.take_along_axis(score_QN, gold_Q[:, None], axis=1)
    return (score_QN >= gold_Q1 - TIE).sum(axis=1)


def is_constant(unit_ND: NDArray) -> bool:
    """Whether all rows are equal, so that they rank nothing. A single row is not constant."""
    return len(unit_ND) > 1 and bool((unit_ND @ unit_ND[0] >= 1 - TIE).all())
