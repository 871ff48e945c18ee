"""Scores of rankings, by hand."""

import pytest

from llm_jepa.scoring.ranked import expected_calibration_error, mean_reciprocal_rank, recall_at


def test_reciprocal_ranks_and_recalls_by_hand():
    ranks = [1, 2, 4, 1]
    assert mean_reciprocal_rank(ranks) == (1 + 1 / 2 + 1 / 4 + 1) / 4
    assert [recall_at(ranks, k) for k in (1, 2, 3, 4)] == [0.5, 0.75, 0.75, 1.0]


def test_a_calibration_error_by_hand():
    """Two bins: 0.32 and 0.38 with one hit of two, .3 over in sum; 0.95 and 1.0 with one hit of two, .95 under."""
    error = expected_calibration_error([0.32, 0.38, 0.95, 1.0], [True, False, True, False])
    assert error == pytest.approx((abs(1 - 0.7) + abs(1 - 1.95)) / 4)


def test_confidences_that_come_true_have_no_error_and_bounds_belong_below():
    assert expected_calibration_error([1.0, 1.0, 0.0], [True, True, False]) == 0
    assert expected_calibration_error([0.5, 0.5], [True, False]) == 0
    assert expected_calibration_error([0.45, 0.5], [True, False]) == pytest.approx(abs(1 - 0.95) / 2)
    assert expected_calibration_error([0.5, 0.55], [False, True]) == pytest.approx((0.5 + 0.45) / 2)


@pytest.mark.parametrize(("confidences", "are_hits", "message"), [
    ([], [], "There are no rows"),
    ([0.5], [True, False], "1 confidences and 2 hits"),
    ([1.5], [True], "A confidence is 1.5"),
])  # fmt: skip
def test_what_cannot_be_scored_is_refused(confidences, are_hits, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(confidences, are_hits)
