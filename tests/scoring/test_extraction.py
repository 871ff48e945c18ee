"""An answer in a fenced block is found as CommonMark finds it; a text without one is its own answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.scoring.extraction import extracted

QUERY = "SELECT 1\nFROM t\n"


@pytest.mark.parametrize(
    ("text", "body"),
    [
        (f"```sql\n{QUERY}```", QUERY),
        (f"Here it is:\n\n```sql\n{QUERY}```\nIt counts.", QUERY),
        (f"```\n{QUERY}```\n```\nother\n```", QUERY),  # the first
        (f"```sql\n{QUERY}", QUERY),  # cut off at the limit of new tokens
        (f"~~~ python\n{QUERY}~~~", QUERY),
        (f"   ````\n```\n{QUERY}````", f"```\n{QUERY}"),  # a longer fence holds a shorter one
        ("```\r\nSELECT 1\r\n```\r\nDone.", "SELECT 1\r\n"),
        (f"```\n{QUERY}`````  ", QUERY),
        (f"```\n{QUERY}~~~\n```", f"{QUERY}~~~\n"),
        ("```\n```", ""),
        (QUERY, QUERY),
        ("the `name` of t", "the `name` of t"),
        ("```SELECT 1```", "```SELECT 1```"),
        ("", ""),
    ],
)
def test_the_first_fenced_block(text, body):
    assert extracted(text, "fence") == body
    assert extracted(text, "none") == text


@given(st.text(st.sampled_from("`~a\n "), max_size=60))
def test_an_answer_is_a_part_of_any_text(text):
    assert extracted(text, "fence") in text


@given(st.text(st.characters(exclude_characters="`~", exclude_categories=["Cs"])), st.sampled_from(["", "sql", "c++"]))
def test_what_is_put_between_fences_comes_out(body, language):
    assert extracted(f"Sure.\n```{language}\n{body}\n```\nDone.", "fence") == f"{body}\n"
