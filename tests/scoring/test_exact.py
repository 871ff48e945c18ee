import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.scoring.exact import is_contained, is_prefix_match, is_strict_match

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
