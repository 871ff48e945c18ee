"""What the report calls its comparisons, what its tables say, and how pages of sections are rendered."""

import pytest

from llm_jepa.experiments.claims import compare_results, contrasts_of
from llm_jepa.experiments.figures import differences_figure
from llm_jepa.experiments.rendering import page_html, page_markdown
from llm_jepa.experiments.report import Section, budget_title
from llm_jepa.experiments.tables import Table, differences_table, other_scores_table


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
    Section(
        "Tables", tables=[Table(["arm", "points", "verdict"], [["1", "-3.7 to +0.8", "-"], ["2", "none", "worse"]])]
    ),
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


def verdict(detectable: float | None, robustness: dict | None = None) -> dict:
    interval = {"low": 0.01, "high": 0.25}
    intervals = dict.fromkeys(("interval", "seed_interval", "row_interval"), interval)
    return {
        "arm": "tube",
        "baseline": "lm_only",
        "outcome": "too few to tell" if robustness is None else "better",
        "difference": {"mean": 0.125, "baseline_mean": 0.4, **intervals},
        "adjusted_p_value": 0.0004,
        "n_comparisons": 42,
        "detectable_difference": detectable,
        "robustness": robustness,
    }


def test_a_row_of_differences_says_what_would_be_found_and_how_robust_a_decision_is():
    """From 40 % right a gain of at most 60 points is possible."""
    robustness = {"p_without_seed": {82: 0.0004, 23: 0.07}, "corrected_sign_flip": 0.328}
    table = differences_table([verdict(0.6), verdict(0.61), verdict(None, robustness)])
    assert table.heading[7] == "p (Holm over 42)"
    assert [row[3:9] for row in table.rows] == [
        ["+12.5", *["+1.0 to +25.0"] * 3, "< 0.001", power] for power in ("60.0", "none", "-")
    ]
    assert [row[9:] for row in table.rows] == [["-", "-"], ["-", "-"], ["< 0.001 to 0.070", "0.328"]]
    page = page_html("T", [Section("Differences", tables=[table])])
    assert page.count('<td class="text open">too few to tell</td>') == 2
    assert page.count('<td class="text better">better</td>') == 1


def test_other_scores_name_another_baseline_than_the_experiments():
    """By hand: `deep` is held against `wide` alone, and its loss of two rows of four is no loss against LM only."""
    rows = {"lm_only": [0, 0, 1, 1], "wide": [1, 1, 1, 1], "deep": [0, 0, 1, 1]}
    cells = {
        name: {
            seed: {
                "scores": {"strict": sum(right) / 4, "stopped": sum(right) / 4},
                "rows": {"strict": right, "stopped": right},
            }
            for seed in (1, 2)
        }
        for name, right in rows.items()
    }
    contrasts = contrasts_of({"equal_steps": {"wide": ["lm_only"], "deep": ["wide"]}})
    options = {"baseline": "lm_only", "names": ["strict", "stopped"], "primary_score": "strict", "seeds": [1, 2]}
    comparisons, _ = compare_results(contrasts, cells, **options)
    report = {"experiment": {"primary_score": "strict"}, "comparisons": comparisons, "series": {}}
    shown = other_scores_table(report, "equal_steps")
    assert shown.heading == ["other scores", "stopped"]
    assert [row[0] for row in shown.rows] == ["wide", "deep against wide"]
    assert [row[1].partition(" ")[0] for row in shown.rows] == ["+50.0", "-50.0"]
    report["series"] = {
        name: {"scores": {"strict": {"by_seed": {seed: one["scores"]["strict"] for seed, one in found.items()}}}}
        for name, found in cells.items()
    }
    assert ">deep against wide<" in (differences_figure(report, "equal_steps") or "")


def test_contrasts_without_cells_have_a_row_of_dashes():
    missing = verdict(None) | {"difference": None, "outcome": "incomplete"}
    assert differences_table([missing]).rows == [["tube", "incomplete", "lm_only", *["-"] * 6]]
    assert differences_table([]).heading[7] == "p (Holm)"
