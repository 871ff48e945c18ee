import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.scoring.qa import normalise_answer, qa_match

texts = st.text(alphabet="aThe né.-\t", max_size=12)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The  Beatles!", "beatles"),
        ("U.S.A.", "usa"),
        ("a cat and an owl", "cat and owl"),
        ("theatre", "theatre"),
        ("Spider-Man", "spiderman"),
        ("\tJuly 4,\n1776 ", "july 4 1776"),
        ("T.H.E. end", "end"),  # punctuation goes before the articles
        ("“quoted”", "“quoted”"),  # only ASCII punctuation goes
        ("...", ""),
        ("The", ""),
    ],
)
def test_normalisation_by_hand(text, normalised):
    assert normalise_answer(text) == normalised


@given(texts)
def test_nothing_that_normalisation_drops_is_left(text):
    normalised = normalise_answer(text)
    assert not set(normalised) & set(string.punctuation)
    assert normalised == " ".join(normalised.split())
    assert not {"a", "an", "the"} & set(normalised.split())
    assert normalise_answer(normalised) == normalised


def test_any_of_the_golds_will_do_but_only_as_a_whole():
    golds = ["Nine", "9 generals"]
    assert qa_match("nine.", golds)
    assert qa_match("the 9 generals", golds)
    assert not qa_match("9", golds)
    assert not qa_match("nine generals", golds)


def test_accents_count_but_not_how_they_are_encoded():
    composed, decomposed = "Guti\u00e9rrez", "Gutie\u0301rrez"
    assert qa_match(composed, [decomposed])
    assert not qa_match("Gutierrez", [composed])


@pytest.mark.parametrize("empty", ["", " \n", "The", "...", "an a, the!"])
@pytest.mark.parametrize("golds", [["Amma"], ["Amma", ""], ["/", "Amma"]])
def test_an_answer_that_normalises_to_nothing_is_wrong_whatever_the_golds(empty, golds):
    assert not qa_match(empty, golds)
    assert qa_match("amma", golds)


@pytest.mark.parametrize("golds", [[], [""], ["/", "The"]])
def test_golds_that_nothing_can_meet_are_an_error(golds):
    with pytest.raises(ValueError, match="normalise to empty texts"):
        qa_match("Amma", golds)


def test_one_text_is_no_list_of_golds():
    with pytest.raises(ValueError, match="give a list of texts"):
        qa_match("Amma", "Amma")
