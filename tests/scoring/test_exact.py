import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.scoring.exact import (
    ExactScores,
    Rate,
    is_contained,
    is_prefix_match,
    is_strict_match,
    summarise,
)

GOLD = ".*[0-9].*"
# Few letters and much whitespace, so that matches of every kind are drawn often.
texts = st.text(alphabet="ab \n\t", max_size=5)


@pytest.mark.parametrize(
    ("prediction", "strict", "prefix", "contains"),
    [
        (".*[0-9].*", True, True, True),
        (" .*[0-9].*\n", True, True, True),
        (".*[0-9].* and more", False, True, True),
        ("The answer is .*[0-9].*", False, False, True),
        (".*[0-9] .*", False, False, False),
        (".*[0-9]", False, False, False),
        ("", False, False, False),
        (" \n", False, False, False),
    ],
)
def test_each_match_is_as_strict_as_its_name(prediction, strict, prefix, contains):
    assert is_strict_match(prediction, GOLD) == strict
    assert is_prefix_match(prediction, GOLD) == prefix
    assert is_contained(prediction, GOLD) == contains


def test_case_counts():
    assert not is_contained("DOG", "dog")


@given(prediction=texts, gold=texts)
def test_strict_implies_prefix_implies_contains(prediction, gold):
    assert is_strict_match(prediction, gold) <= is_prefix_match(prediction, gold)
    assert is_prefix_match(prediction, gold) <= is_contained(prediction, gold)


@given(text=texts, blank=st.text(alphabet=" \n\t", max_size=3))
def test_an_empty_text_on_either_side_never_matches(text, blank):
    for pair in ((text, blank), (blank, text)):
        assert not any(matches(*pair) for matches in (is_strict_match, is_prefix_match, is_contained))


@given(gold=texts.filter(str.strip), before=texts, after=texts)
def test_a_gold_matches_itself_and_what_is_written_around_it(gold, before, after):
    assert is_strict_match(gold, gold)
    assert is_prefix_match(gold.strip() + after, gold)
    assert is_contained(before + gold.strip() + after, gold)


def test_summary_of_four_rows_counted_by_hand():
    scores = summarise(
        predictions=["a", "a b", "the a", "c"], golds=["a", "a", "a", "a"], stopped=[True, False, True, True]
    )
    assert scores == ExactScores(
        strict=Rate(1, 4), prefix=Rate(2, 4), contains=Rate(3, 4), stopped=Rate(3, 4), capped=Rate(1, 4)
    )


def test_standard_error_is_that_of_a_proportion():
    """p = 0.2 of 100 rows: sqrt(0.2 * 0.8 / 100) = 0.04."""
    rate = Rate(20, 100)
    assert rate.fraction == 0.2
    assert rate.standard_error == pytest.approx(0.04)


def test_rows_that_do_not_match_up_are_an_error():
    with pytest.raises(ValueError, match="2 predictions, 1 golds, 2 stop flags"):
        summarise(["a", "b"], ["a"], [True, True])
    with pytest.raises(ValueError, match="at least one row"):
        summarise([], [], [])
