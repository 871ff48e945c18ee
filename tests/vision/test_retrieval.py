"""Ranks are strict: an answer must be nearer than every other one, so that equal embeddings find nothing."""

import numpy as np
import pytest

from llm_jepa.vision.retrieval import answer_ranks, image_ranks, retrieval_scores


def slow_answer_ranks(predictions, targets, keys):
    """Each answer by its first row; how many different answers are as near as the own one, itself included."""
    first = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    ranks = []
    for prediction, key in zip(predictions, keys, strict=True):
        own = cosine(prediction, targets[first[key]])
        ranks.append(sum(cosine(prediction, targets[row]) >= own - 1e-6 for row in first.values()))
    return ranks


def test_ranks_are_those_of_a_loop():
    draw = np.random.default_rng(0).normal(size=(2, 40, 5))
    keys = np.random.default_rng(1).integers(0, 12, 40)
    assert answer_ranks(*draw, keys) == slow_answer_ranks(*draw, keys)


def test_by_hand():
    """Rows 0 and 2 have one answer; row 1 is nearer to it than to its own."""
    predictions = np.array([[1.0, 0], [1, 0.1], [0, 1]])
    targets = np.array([[1.0, 0], [0, 1], [1, 0]])
    keys = np.array([5, 8, 5])
    assert answer_ranks(predictions, targets, keys) == [1, 2, 2]
    assert image_ranks(predictions, targets, keys) == [1, 2]


def test_the_nearest_image_of_an_answer_counts():
    """The answer of rows 0 and 3 is nearest to row 1, then to row 3."""
    predictions = np.array([[0.0, 1], [1, 0], [-1, 0], [1, 0.2]])
    targets = np.array([[1.0, 0], [-1, 0], [-1, 0], [1, 0]])
    keys = np.array([1, 2, 3, 1])
    assert image_ranks(predictions, targets, keys)[0] == 2


@pytest.mark.parametrize("ranks", [answer_ranks, image_ranks])
def test_embeddings_that_are_all_equal_find_nothing(ranks):
    same = np.ones((20, 4))
    found = ranks(same, same, np.arange(20))
    assert found == [20] * 20
    assert retrieval_scores(found) == {
        "recall_at_1": 0, "recall_at_5": 0, "recall_at_10": 0, "mean_reciprocal_rank": pytest.approx(0.05),
    }  # fmt: skip


def test_scores_of_ranks():
    scores = retrieval_scores([1, 2, 6, 11])
    assert scores == {
        "recall_at_1": 0.25, "recall_at_5": 0.5, "recall_at_10": 0.75,
        "mean_reciprocal_rank": pytest.approx((1 + 1 / 2 + 1 / 6 + 1 / 11) / 4),
    }  # fmt: skip
