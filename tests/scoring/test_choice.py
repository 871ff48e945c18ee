import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.scoring.choice import choose

log_probs = st.floats(max_value=0, allow_nan=False)


@pytest.mark.parametrize(
    ("normalisation", "chosen"),
    [
        ("none", 0),  # -6, -8, -9
        ("tokens", 1),  # -6, -4, -9
        ("characters", 2),  # -3, -2, -1.5
        ("bytes", 1),  # -3, -1, -1.5
    ],
)
def test_each_normalisation_divides_by_its_own_length(normalisation, chosen):
    """Each "é" is one character and two bytes, each other letter one of both."""
    assert choose([-6.0, -8.0, -9.0], ["ab", "éééé", "abcdef"], [1, 2, 1], normalisation) == chosen


@given(st.lists(log_probs, min_size=1, max_size=6))
def test_without_normalisation_the_likeliest_is_chosen_and_of_equal_ones_the_first(log_prob_C):
    chosen = choose(log_prob_C, ["x"] * len(log_prob_C), [1] * len(log_prob_C), "none")
    assert all(log_prob < log_prob_C[chosen] for log_prob in log_prob_C[:chosen])
    assert all(log_prob <= log_prob_C[chosen] for log_prob in log_prob_C[chosen:])


def test_a_tie_after_normalisation_goes_to_the_first():
    assert choose([-4.0, -2.0, -2.0], ["abcd", "ab", "cd"], [1, 1, 1], "characters") == 0


def test_an_impossible_choice_is_never_preferred():
    assert choose([-math.inf, -100.0], ["a", "b"], [1, 1], "tokens") == 1


@pytest.mark.parametrize("log_prob", [math.nan, math.inf, 0.5])
def test_what_is_no_log_probability_is_an_error(log_prob):
    with pytest.raises(ValueError, match=f"Choice 'b' has the log-probability {log_prob}"):
        choose([-1.0, log_prob], ["a", "b"], [1, 1], "none")


def test_a_choice_without_length_is_an_error_only_where_the_length_counts():
    assert choose([-2.0, -1.0], ["a", ""], [1, 1], "tokens") == 1
    with pytest.raises(ValueError, match="'' has a length of 0 bytes"):
        choose([-2.0, -1.0], ["a", ""], [1, 1], "bytes")


def test_arguments_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match="2 log-probabilities, 1 choices, 2 token counts"):
        choose([-1.0, -2.0], ["a"], [1, 1], "none")
    with pytest.raises(ValueError, match="at least one"):
        choose([], [], [], "none")
    with pytest.raises(ValueError, match="'words'; allowed are none, tokens, characters, bytes"):
        choose([-1.0], ["a"], [1], "words")
