import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.scoring.math_answer import (
    flexible_answer,
    is_flexible_math_match,
    is_strict_math_match,
    math_equal,
    parse_number,
    strict_answer,
)

GOLD = "She sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\nThat makes 9 * 2 = $<<9*2=18>>18.\n#### 18"


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        (GOLD, "18", "18"),
        ("#### -1,234.50", "-1,234.50", "-1,234.50"),
        ("#### 18\n\nQuestion: another\n#### 7", "18", "7"),  # the first marker, the last number
        ("####18", None, "18"),
        ("#### $18", None, "$18"),
        ("It costs $1,080.", None, "$1,080."),
        ("It costs 5 dollars", None, "5"),
        ("He owes -5", None, "-5"),
        ("5% of 40", None, "40"),
        ("The answer is 18...", None, "18..."),
        ("18 eggs, and then...", None, "18"),
        ("one half, 1/2", None, "2"),
        ("no number", None, None),
        ("... $$", None, None),
        ("", None, None),
    ],
)
def test_answers_are_taken_where_they_stand(text, strict, flexible):
    assert strict_answer(text) == strict
    assert flexible_answer(text) == flexible


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("18", "18"),
        ("18.0", "18"),
        ("018", "18"),
        ("$18.", "18"),
        ("18%", "18"),
        ("-$1,234.50", "-1234.5"),
        (".5", "0.5"),
        ("18...", "18"),
        ("-0", "0"),
        ("123456789012345678901234567890.1", "123456789012345678901234567890.1"),
        ("1.2.3", None),
        ("1/2", None),
        ("1e3", None),
        ("٣", None),
        ("-", None),
        ("...", None),
        ("nan", None),
        ("", None),
    ],
)
def test_numbers_are_read_exactly_or_not_at_all(text, number):
    assert parse_number(text) == (None if number is None else Decimal(number))


def test_numbers_that_floats_cannot_tell_apart_differ():
    assert not math_equal("10000000000000000", "10000000000000001")
    assert not math_equal("0.1", "0.1000000000000000000001")


def test_what_is_no_number_equals_nothing_not_even_itself():
    assert not math_equal(None, None)
    assert not math_equal("...", "...")
    assert not math_equal(None, "18")


@pytest.mark.parametrize(
    ("prediction", "strict", "flexible"),
    [
        (GOLD, True, True),
        ("#### 18.00", True, True),
        ("#### 18 eggs, or 1.5 dozen", True, False),
        ("The answer is $18.", False, True),
        ("#### -18", False, False),
        ("#### 180", False, False),
        ("#### .", False, False),
        ("", False, False),
    ],
)
def test_matches_by_hand(prediction, strict, flexible):
    assert is_strict_math_match(prediction, GOLD) == strict
    assert is_flexible_math_match(prediction, GOLD) == flexible
    assert is_strict_math_match(prediction, "18") == strict


@pytest.mark.parametrize("gold", ["", "eighteen", "#### ", "18 eggs", "#### 1/2"])
def test_a_gold_without_a_number_is_an_error(gold):
    for matches in (is_strict_math_match, is_flexible_math_match):
        with pytest.raises(ValueError, match="has no number to compare with"):
            matches("#### 18", gold)


def lm_eval_match(prediction: str, gold: str, pattern: str, group_select: int) -> bool:
    """A plain reading of lm-eval's `regex` filter and `exact_match` with the settings of its task `gsm8k`."""

    def without_ignored(text: str) -> str:
        for ignored in (",", r"\$", "(?s).*#### ", r"\.$"):
            text = re.sub(ignored, "", text)
        return text

    found = re.findall(pattern, prediction)
    answer = found[group_select] if found else "[invalid]"
    if isinstance(answer, tuple):
        answer = next(filter(None, answer))
    return without_ignored(answer) == without_ignored(gold)


pieces = st.sampled_from(["#### ", "18", "-", "$", ",", ".", "5", "1,018", " ", "\n", "eggs", "%"])
answers = st.lists(pieces, max_size=8).map("".join)


@given(prediction=answers, number=st.sampled_from(["18", "-5", "1018", "1,018"]))
def test_what_lm_eval_calls_right_is_right(prediction, number):
    """The differences to lm-eval that the module lists go one way only."""
    gold = f"So many.\n#### {number}"
    if lm_eval_match(prediction, gold, r"#### (\-?[0-9\.\,]+)", 0):
        assert is_strict_math_match(prediction, gold)
    if lm_eval_match(prediction, gold, r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1):
        assert is_flexible_math_match(prediction, gold)


@given(value=st.integers(-(10**6), 10**6), form=st.sampled_from(["{}", "{:,}", "{}."]))
def test_ordinary_outputs_score_as_in_lm_eval(value, form):
    prediction = "So it is\n#### " + form.format(value)
    for gold in (f"#### {value}", f"#### {value + 1}"):
        lm_strict = lm_eval_match(prediction, gold, r"#### (\-?[0-9\.\,]+)", 0)
        lm_flexible = lm_eval_match(prediction, gold, r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1)
        assert is_strict_math_match(prediction, gold) == lm_strict
        assert is_flexible_math_match(prediction, gold) == lm_flexible
