"""Nearest answers and ranks, by hand and against a slow reference."""

import numpy as np
import pytest

from llm_jepa.inference.ranking import is_constant, nearest, num_equal, pessimistic_ranks, unit_rows


def test_the_nearest_are_in_order_and_the_first_of_equal_ones_comes_first():
    score_QN = np.array([[0.5, 0.9, 0.5, 0.1], [0.2, 0.2, 0.2, 0.2]])
    assert nearest(score_QN, 2).tolist() == [[1, 0], [0, 1]]
    assert nearest(score_QN, 9).tolist() == [[1, 0, 2, 3], [0, 1, 2, 3]]


@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_nearest_are_those_of_a_sorted_list(k):
    score_QN = np.random.default_rng(0).integers(0, 6, (20, 10)) / 10
    expected = [sorted(range(10), key=lambda i, score_N=score_N: (-score_N[i], i))[:k] for score_N in score_QN]
    assert nearest(score_QN, k).tolist() == expected


def test_equal_scores_are_counted_to_within_rounding():
    score_QN = np.array([[0.5, 0.5 + 5e-7, 0.7, 0.5 + 5e-6]])
    assert num_equal(score_QN, np.array([[2, 3, 0]])).tolist() == [[0, 0, 1]]


def test_a_rank_counts_equal_answers_as_nearer():
    score_QN = np.array([[0.2, 0.7, 0.7], [0.9, 0.1, 0.2], [0.4, 0.4, 0.4]])
    assert pessimistic_ranks(score_QN, np.array([1, 0, 2])).tolist() == [2, 1, 3]
    score_QN[1, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 3 rows have scores that are not numbers"):
        pessimistic_ranks(score_QN, np.array([1, 0, 2]))


def test_rows_of_equal_direction_are_constant_and_a_row_of_zeros_stays():
    assert is_constant(unit_rows(np.array([[1.0, 2.0], [2.0, 4.0], [0.5, 1.0]])))
    assert not is_constant(unit_rows(np.array([[1.0, 2.0], [2.0, 4.1]])))
    assert not is_constant(unit_rows(np.array([[1.0, 2.0]])))
    assert unit_rows(np.zeros((1, 2))).tolist() == [[0.0, 0.0]]
