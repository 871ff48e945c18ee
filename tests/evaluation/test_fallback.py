"""Margins, what they do, and which is chosen, by hand."""

import json

import numpy as np
import pytest

from llm_jepa.evaluation.decoding_figures import draw_fallback
from llm_jepa.evaluation.fallback import FallbackPoint, best_margin, fallback_curve, fallback_point, margins_of

MARGINS = np.array([0.1, 0.3, 0.0, 0.3])
LATENT = np.array([False, True, False, True])
GENERATE = np.array([True, False, False, True])
SECONDS = 1.0, 10.0


def test_a_margin_is_between_the_two_highest_scores():
    assert margins_of([np.array([0.2, 0.9, 0.5]), np.array([0.4, 0.4])]) == pytest.approx([0.4, 0.0])
    with pytest.raises(ValueError, match="Give each row two"):
        margins_of([np.array([0.2])])


def test_rows_below_the_margin_are_generated_and_cost_both():
    """At 0.3 rows 0 and 2 are generated: hits 1 1 0 1."""
    point = fallback_point(0.3, MARGINS, LATENT, GENERATE, *SECONDS)
    assert point == FallbackPoint(margin=0.3, share_generated=0.5, accuracy=0.75, seconds=1 + 0.5 * 10)


def test_the_curve_goes_from_no_row_to_all_and_the_best_generates_least():
    curve = fallback_curve(MARGINS, LATENT, GENERATE, *SECONDS)
    assert [point.share_generated for point in curve] == [0.0, 0.25, 0.5, 1.0]
    assert [point.accuracy for point in curve] == [0.5, 0.5, 0.75, 0.5]
    assert best_margin(curve) == 0.3
    assert best_margin(curve[:2]) == 0.0


def test_generating_every_row_holds_for_rows_beyond_the_margins_it_was_chosen_on():
    """Generation alone is right; a row of another split has a larger margin than all of these."""
    wrong_N, right_N = np.zeros(4, bool), np.ones(4, bool)
    margin = best_margin(fallback_curve(MARGINS, wrong_N, right_N, *SECONDS))
    point = fallback_point(margin, 2 + MARGINS, wrong_N, right_N, *SECONDS)
    assert (point.share_generated, point.accuracy, point.seconds) == (1.0, 1.0, 11.0)
    assert json.loads(json.dumps(point.report(), allow_nan=False))["margin"] is None
    assert fallback_point(0.3, MARGINS, wrong_N, right_N, *SECONDS).report()["margin"] == 0.3


def test_equal_figures_are_equal_files(tmp_path):
    curve = fallback_curve(MARGINS, LATENT, GENERATE, *SECONDS)
    for name in ("first.svg", "second.svg"):
        draw_fallback(curve, curve[1], {"latent": (1.0, 0.5), "generate": (10.0, 0.5)}, tmp_path / name)
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()
