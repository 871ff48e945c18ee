"""How many tokens are drafted: as many as pay by what was measured, and none where drafting does not pay."""

import pytest

from llm_jepa.inference.draft_counts import DraftCounts
from llm_jepa.inference.draft_length import FORWARDS_BETWEEN_TRIALS, TRIALS, AdaptiveLength


def chosen(acceptance: float, seconds, forwards: int = 400) -> list[int]:
    """The lengths chosen while the first `round(acceptance * K)` of K tokens are accepted, at `seconds(K)`."""
    length, lengths = AdaptiveLength(4), []
    for _ in range(forwards):
        num_drafted = length.choose()
        num_accepted = min(round(acceptance * 4), num_drafted)
        length.observe(num_drafted, min(num_accepted + 1, num_drafted), num_accepted, seconds(num_drafted))
        lengths.append(num_drafted)
    return lengths


def test_each_length_is_tried_and_the_best_is_kept_but_for_trials():
    # 2 are accepted: 1, 2, 3, 3, 3 tokens at 1, 1.1, 1.2, 1.3, 1.4 seconds, so 2 is the best
    lengths = chosen(0.5, lambda drafted: 1 + 0.1 * drafted)
    start = 5 * TRIALS
    assert sorted(lengths[:start]) == sorted([0, 1, 2, 3, 4] * TRIALS)
    later = lengths[start:]
    assert sum(length != 2 for length in later) == len(later) // FORWARDS_BETWEEN_TRIALS


def test_drafting_is_given_up_where_nothing_is_accepted_and_costs_at_most_a_twentieth():
    def seconds(drafted):
        return 1 + 0.5 * (drafted > 0)

    lengths = chosen(0, seconds, 1000)
    assert sum(length > 0 for length in lengths) <= 4 * TRIALS + 1000 // FORWARDS_BETWEEN_TRIALS
    assert sum(map(seconds, lengths)) < 1000 / 0.95


def test_a_slow_first_forward_does_not_rule_a_length_out():
    length, seen = AdaptiveLength(2), []
    for _ in range(50):
        drafted = length.choose()
        slow = 100 if drafted not in seen else 1
        seen.append(drafted)
        length.observe(drafted, drafted, drafted, slow * (1 + 0.1 * drafted))
    assert seen[-1] == 2


def test_counts_by_hand():
    counts = DraftCounts()
    assert counts.add([], [4]) == (0, 0)
    assert counts.add([5, 6, 7], [5, 9]) == (2, 1)
    assert counts.add([5, 6], [5, 6, 8]) == (2, 2)
    assert counts.add([5, 6, 7], [5, 6]) == (2, 2)  # the second ended the text
    assert (counts.forwards, counts.tokens, counts.tokens_per_forward) == (4, 8, 2.0)
    assert (counts.verified_K, counts.accepted_K) == ([3, 3], [3, 2])
    assert counts.acceptance == [1.0, pytest.approx(2 / 3)]
