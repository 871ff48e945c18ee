"""How well predictions find their answers: strict ranks, so that embeddings that are all equal find nothing.

Legend: N rows, M different answers, E the width.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llm_jepa.inference.ranking import TIE, pessimistic_ranks, unit_rows
from llm_jepa.scoring.ranked import mean_reciprocal_rank, recall_at

DEPTHS = (1, 5, 10)
ROWS_AT_ONCE = 1024


def ranks_of(query_NE: NDArray, answer_ME: NDArray, gold_N: NDArray) -> list[int]:
    """The rank of each query's own answer, `answer_ME[gold_N]`, among all answers, from 1; a tie counts against it."""
    unit_NE, unit_ME = unit_rows(query_NE), unit_rows(answer_ME)
    ranks: list[int] = []
    for start in range(0, len(unit_NE), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        ranks += pessimistic_ranks(unit_NE[rows] @ unit_ME.T, gold_N[rows]).tolist()
    return ranks


def answer_ranks(prediction_NE: NDArray, target_NE: NDArray, key_N: NDArray) -> list[int]:
    """The rank of each row's answer among all different answers, from 1; a tie counts against it.

    Args:
        key_N: Equal for rows with the same answer, whose embedding is that of the first of them.
    """
    _, first_M, place_N = np.unique(key_N, return_index=True, return_inverse=True)
    return ranks_of(prediction_NE, target_NE[first_M], place_N)


def image_ranks(prediction_NE: NDArray, target_NE: NDArray, key_N: NDArray) -> list[int]:
    """The rank, among all rows, of the nearest row with an answer's key: one for each different answer.

    Example: an answer of the rows 2 and 5 that is nearest to row 7, then to row 5, has the rank 2.
    """
    unit_NE, ranks = unit_rows(prediction_NE), []
    keys, first_M = np.unique(key_N, return_index=True)
    for key, first in zip(keys, first_M, strict=True):
        score_N = unit_NE @ unit_rows(target_NE[first][None])[0]
        is_own_N = key_N == key
        best = score_N[is_own_N].max()
        ranks.append(int((score_N[~is_own_N] >= best - TIE).sum()) + 1)
    return ranks


def retrieval_scores(ranks: Sequence[int]) -> dict[str, float]:
    """Recall at 1, 5 and 10, and the mean reciprocal rank."""
    scores = {f"recall_at_{k}": recall_at(ranks, k) for k in DEPTHS}
    return {**scores, "mean_reciprocal_rank": mean_reciprocal_rank(ranks)}
