"""Verdicts: one Holm family, outcomes, what is missing, sentences."""

import math

import numpy as np
import pytest

from llm_jepa.experiments.significance import (
    Contrast,
    PairedDifference,
    Verdict,
    descriptions,
    holm,
    verdicts,
)
from tests.experiments.significance.scored_rows import ARM, ARMS, BASELINE, SEEDS, contrast, rows_of


def one_verdict(arm=ARM, baseline=BASELINE, n_seeds: int = 5, **options) -> Verdict:
    rows = {"prefix_sg": rows_of(arm), "lm_only": rows_of(baseline)}
    (found,) = verdicts([contrast()], rows, SEEDS[:n_seeds], **options)
    return found


def figures(verdict: Verdict) -> PairedDifference:
    assert isinstance(verdict.difference, PairedDifference)
    return verdict.difference


# --- outcomes


def test_the_sentence_has_all_figures():
    found = one_verdict()
    difference = figures(found)
    shown = [
        f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}"
        for interval in (difference.interval, difference.seed_interval, difference.row_interval)
        if interval is not None
    ]
    assert found.detectable_difference is not None
    assert found.sentence == (
        f"prefix_sg against lm_only: +20.0 points (95 % CI {shown[0]} over seeds and rows; {shown[1]} over 5 seeds "
        f"alone; {shown[2]} over 100 test rows alone), p = {found.adjusted_p_value:.3f} after Holm over 1 comparison: "
        f"better. These seeds and rows would find a true difference of {100 * found.detectable_difference:.1f} points "
        "with 80 % probability."
    )


def test_a_difference_of_more_than_all_rows_is_not_stated():
    """Three seeds gain all rows, two lose all."""
    seeds = range(5)
    rows = {"arm": {one: [one % 2] * 4 for one in seeds}, "base": {one: [1 - one % 2] * 4 for one in seeds}}
    (found,) = verdicts([Contrast("arm", "base", "equal_steps")], rows, seeds)
    assert (found.detectable_difference or 0.0) > 1
    assert found.sentence.endswith(
        "No true difference would be found with 80 % probability: the largest possible gain is 40.0 points, the "
        "largest loss 60.0."
    )


def test_what_no_possible_difference_could_show_is_too_few_to_tell():
    """The baseline has about a half, so that 54.4 points are possible; two of five seeds leave it by far, as in a
    task that is learnt all at once."""
    base, arm = [0.5, 0.45, 0.42, 0.46, 0.45], [0.98, 0.2, 0.96, 0.2, 0.45]
    found = one_verdict(arm, base)
    assert figures(found).largest_possible == pytest.approx(1 - 0.456)
    assert 0.544 < (found.detectable_difference or 0.0) < 1
    assert found.outcome == "too few to tell"
    assert found.sentence.endswith(
        "No true difference would be found with 80 % probability: the largest possible gain is 54.4 points, the "
        "largest loss 45.6."
    )
    less = one_verdict([1 - one for one in arm], [1 - one for one in base])
    assert (less.outcome, figures(less).largest_possible) == ("too few to tell", pytest.approx(1 - 0.456))


def test_better_worse_and_a_score_where_less_is_better():
    assert one_verdict().outcome == "better"
    assert one_verdict(BASELINE, ARM).outcome == "worse"
    assert one_verdict(higher_is_better=False).outcome == "worse"
    assert one_verdict(BASELINE, ARM, higher_is_better=False).outcome == "better"


def test_rows_that_interact_with_the_arm_take_back_what_seeds_alone_would_say():
    """All seeds gain two points, but on 20 rows and they lose 18 others: the seeds agree, other rows would not."""
    arm_R, baseline_R = np.zeros(100), np.zeros(100)
    arm_R[:20] = 1
    baseline_R[20:38] = 1
    arm = {seed: arm_R.copy() for seed in SEEDS}
    arm[82][50] = 1  # so that the seeds differ a little
    (found,) = verdicts([contrast()], {"prefix_sg": arm, "lm_only": dict.fromkeys(SEEDS, baseline_R)}, SEEDS)
    difference = figures(found)
    assert difference.seed_interval is not None
    assert difference.seed_interval.low > 0
    assert found.outcome == "no difference found"


def test_a_negative_difference_that_rounds_to_zero_has_no_minus():
    arm = [0.530, 0.550, 0.520, 0.560, 0.539]
    rows = {"prefix_sg": rows_of(arm, 1000), "lm_only": rows_of(BASELINE, 1000)}
    (found,) = verdicts([contrast()], rows, SEEDS)
    assert figures(found).mean == pytest.approx(-0.0002)
    assert found.sentence.startswith("prefix_sg against lm_only: +0.0 points")


@pytest.mark.parametrize("n_seeds", [1, 2, 4])
def test_fewer_than_five_seeds_are_too_few(n_seeds: int):
    """However large the difference; the figures are still given."""
    found = one_verdict(n_seeds=n_seeds)
    assert found.outcome == "too few to tell"
    assert figures(found).mean == pytest.approx(np.mean([0.20, 0.15, 0.25, 0.12][:n_seeds]))
    assert (found.adjusted_p_value is None) == (n_seeds == 1)
    assert f"over {n_seeds} seed" in found.sentence
    assert found.detectable_difference is None, "they find nothing, however large"
    assert found.sentence.endswith("too few to tell.")


def test_a_constant_difference_is_too_few_to_tell():
    """Five equal differences have p = 1/16, six 1/32; a zero difference is no difference."""
    for seeds, p in (SEEDS, 1 / 16), ([*SEEDS, 7], 1 / 32):
        rows = {
            name: {seed: [share] * 100 for seed in seeds} for name, share in (("prefix_sg", 0.7), ("lm_only", 0.5))
        }
        (constant,) = verdicts([contrast()], rows, seeds)
        assert (constant.outcome, constant.adjusted_p_value) == ("too few to tell", p)
    none = one_verdict(BASELINE)
    assert (none.outcome, none.detectable_difference) == ("no difference found", None)
    assert "+0.0 points (95 % CI none over seeds and rows; none over 5 seeds alone" in none.sentence
    assert none.sentence.endswith("no difference found.")


def test_one_cluster_of_rows_is_too_few_to_tell():
    assert one_verdict(clusters=["one"] * 100).outcome == "too few to tell"


# --- the family


def test_all_contrasts_are_one_family():
    """Eight comparisons over two budgets: each p value is corrected for eight, and the power too."""
    draw = np.random.default_rng(0)
    rows = {name: {seed: draw.integers(0, 2, 50) for seed in SEEDS} for name in [*ARMS, "lm_only", "longer"]}
    contrasts = [contrast(arm, "lm_only") for arm in ARMS] + [
        contrast(arm, "longer", "equal_flops") for arm in reversed(ARMS)
    ]
    found = verdicts(contrasts, rows, SEEDS)
    assert [(verdict.arm, verdict.baseline, verdict.budget) for verdict in found] == [
        (one.arm, one.baseline, one.budget) for one in contrasts
    ]
    assert {verdict.n_comparisons for verdict in found} == {8}
    p_values = [figures(verdict).p_value or 0.0 for verdict in found]
    assert [verdict.adjusted_p_value for verdict in found] == pytest.approx(holm(p_values))
    for verdict in found:
        assert verdict.detectable_difference == pytest.approx(figures(verdict).detectable_difference(0.05 / 8))


def test_holm_takes_back_what_a_single_test_would_say():
    arm = [0.75, 0.62, 0.77, 0.62, 0.84]
    alone = one_verdict(arm)
    assert alone.outcome == "better"
    rows = {name: rows_of(BASELINE) for name in [*ARMS, "lm_only"]} | {"tube": rows_of(arm)}
    found = verdicts([contrast(name) for name in ARMS], rows, SEEDS)
    assert found[-1].adjusted_p_value == pytest.approx(4 * (alone.adjusted_p_value or 0.0))
    assert {verdict.outcome for verdict in found} == {"no difference found"}
    assert (found[-1].detectable_difference or 0.0) > (alone.detectable_difference or math.inf)


def test_the_same_comparison_at_both_budgets_counts_once():
    """tube costs what SFT costs: its baseline at equal FLOPs is that at equal steps."""
    rows = {"tube": rows_of(ARM), "alone": rows_of(BASELINE), "lm_only": rows_of(BASELINE)}
    contrasts = [contrast("tube"), contrast("alone"), contrast("tube", budget="equal_flops")]
    found = verdicts(contrasts, rows, SEEDS)
    assert {verdict.n_comparisons for verdict in found} == {2}
    assert found[0].adjusted_p_value == found[2].adjusted_p_value == 2 * (figures(found[0]).p_value or 0.0)


def test_descriptions_have_intervals_and_claim_nothing():
    """However large the difference."""
    rows = {"prefix_sg": rows_of(ARM), "lm_only": rows_of(BASELINE)}
    described, missing = descriptions([contrast(), contrast("tube")], rows, SEEDS)
    assert figures(described).interval == figures(one_verdict()).interval
    assert (described.outcome, described.adjusted_p_value, described.detectable_difference) == (
        "descriptive",
        None,
        None,
    )
    assert described.sentence.endswith("test rows alone): descriptive.")
    assert missing.outcome == "incomplete"


# --- missing and malformed cells


def test_a_missing_seed_is_incomplete_and_has_no_figures():
    rows = {"prefix_sg": rows_of(ARM), "lm_only": rows_of(BASELINE)}
    del rows["prefix_sg"][82]
    (found,) = verdicts([contrast()], rows, SEEDS)
    assert found == Verdict(
        "prefix_sg", "lm_only", "equal_steps", "score", "incomplete", None, None, 1, None, (("prefix_sg", 82),)
    )
    assert found.sentence == "prefix_sg against lm_only: incomplete. Missing: prefix_sg seed 82."
    del rows["prefix_sg"][23], rows["lm_only"][23]
    (found,) = verdicts([contrast()], rows, SEEDS)
    missing = found.sentence.partition(" Missing: ")[2].removesuffix(".").split("; ")
    assert sorted(missing) == ["lm_only seed 23", "prefix_sg seeds 82, 23"]


def test_a_missing_arm_still_counts_in_holm():
    """The other arm's p is doubled as declared, so it can only fall once the missing arm comes in."""
    rows = {"tube": rows_of(ARM), "lm_only": rows_of(BASELINE)}
    alone, tube = verdicts([contrast("alone"), contrast("tube")], rows, SEEDS)
    assert alone.outcome == "incomplete"
    assert alone.missing == tuple(("alone", seed) for seed in SEEDS)
    assert tube.adjusted_p_value == pytest.approx(2 * (figures(tube).p_value or 0.0))


def test_a_baseline_that_lacks_a_seed_makes_every_comparison_incomplete():
    rows = {arm: rows_of(ARM) for arm in ARMS} | {"lm_only": rows_of(BASELINE[:4])}
    found = verdicts([contrast(arm) for arm in ARMS], rows, SEEDS)
    assert {verdict.outcome for verdict in found} == {"incomplete"}
    assert {verdict.difference for verdict in found} == {None}


def test_rows_that_the_score_does_not_count_are_left_out():
    """And their clusters."""
    arm, baseline = rows_of(ARM), rows_of(BASELINE)
    for cell in (*arm.values(), *baseline.values()):
        cell[0] = cell[99] = None
    clusters = [row // 2 for row in range(100)]
    (found,) = verdicts([contrast()], {"prefix_sg": arm, "lm_only": baseline}, SEEDS, clusters=clusters)
    # 15 to 28 rows of each seed differ, none of them the first or the last.
    assert figures(found).mean == pytest.approx(0.2 * 100 / 98)
    assert (figures(found).n_rows, figures(found).n_clusters) == (98, 50)


def test_other_rows_in_one_cell_are_refused():
    rows = {"prefix_sg": rows_of(ARM), "lm_only": rows_of(BASELINE)}
    rows["prefix_sg"][4] = [*rows["prefix_sg"][4][:-1], None]
    with pytest.raises(ValueError, match=r"the same test rows; arm 'prefix_sg', seed 4 has 99 counted rows"):
        verdicts([contrast("prefix_sg")], rows, SEEDS)
    rows["prefix_sg"][4] = [0.0, 1.0]
    with pytest.raises(ValueError, match="the same test rows"):
        verdicts([contrast("prefix_sg")], rows, SEEDS)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_that_is_no_number_names_arm_and_seed(value: float):
    rows = {"prefix_sg": rows_of(ARM), "lm_only": rows_of(BASELINE)}
    rows["prefix_sg"][23][1] = value
    with pytest.raises(ValueError, match="rows of arm 'prefix_sg', seed 23"):
        verdicts([contrast()], rows, SEEDS)


def test_a_score_that_counts_no_row_is_refused():
    rows = {name: {seed: [None, None] for seed in SEEDS} for name in ("prefix_sg", "lm_only")}
    with pytest.raises(ValueError, match="finite numbers, at least one"):
        verdicts([contrast()], rows, SEEDS)


def test_clusters_of_other_rows_are_refused():
    with pytest.raises(ValueError, match="100 rows, 2 clusters"):
        one_verdict(clusters=["a", "b"])


@pytest.mark.parametrize(
    ("contrasts", "seeds"),
    [
        ([], [1]),
        ([contrast()], []),
        ([contrast(), contrast()], [1]),
        ([contrast("lm_only")], [1]),
        ([contrast()], [1, 1]),
    ],
)
def test_contrasts_and_seeds_are_named_once(contrasts: list[Contrast], seeds: list[int]):
    """A seed counted twice would make noise look certain."""
    with pytest.raises(ValueError, match="each once"):
        verdicts(contrasts, {}, seeds)
