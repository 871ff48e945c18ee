"""What the report calls its comparisons, and how pages of sections are rendered."""

import pytest

from llm_jepa.experiments.rendering import page_html, page_markdown
from llm_jepa.experiments.report import Section, Table, budget_title


@pytest.mark.parametrize(
    ("equal_flops", "budget", "title"),
    [
        ("each_arm", "equal_flops", "At equal FLOPs"),
        ("costliest_arm", "equal_flops", "At the costliest arm's FLOPs"),
        ("costliest_arm", "equal_steps", "At equal steps"),
    ],
)
def test_more_flops_than_an_arm_had_are_not_called_equal(equal_flops, budget, title):
    assert budget_title({"experiment": {"equal_flops": equal_flops}}, budget) == title


SECTIONS = [
    Section("Is it faster? With G(2, 4)", ["**Not** 5 % of `draft`, see [the log](LOG.md)."]),
    Section("Tables", tables=[Table(["arm", "points", "verdict"], [["1", "-3.7 to +0.8", "-"], ["2", "-", "worse"]])]),
]


def test_columns_of_words_are_aligned_left_and_figures_right():
    text, _ = page_markdown("T", SECTIONS)
    assert "| arm | points | verdict |\n| --- | ---: | --- |\n| 1 | -3.7 to +0.8 | - |" in text
    page = page_html("T", SECTIONS)
    assert '<td class="text">1</td><td>-3.7 to +0.8</td><td class="text">-</td>' in page


def test_a_page_with_a_header_lists_its_sections():
    text, _ = page_markdown("T", SECTIONS, header=["By [me](me.md)."])
    place = "#is-it-faster-with-g2-4"
    assert text.startswith(
        f"# T\n\nBy [me](me.md).\n\n- [Is it faster? With G(2, 4)]({place})\n- [Tables](#tables)\n\n## Is"
    )
    page = page_html("T", SECTIONS, header=["By [me](me.md)."])
    assert '<p>By <a href="me.md">me</a>.</p>' in page
    assert f'<li><a href="{place}">Is it faster? With G(2, 4)</a></li>' in page
    assert f'<h2 id="{place[1:]}">' in page


def test_strong_text_code_and_links_in_html():
    said = '<strong>Not</strong> 5&nbsp;% of <code>draft</code>, see <a href="LOG.md">the log</a>.'
    assert said in page_html("T", SECTIONS)
