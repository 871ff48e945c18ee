"""What is declared of an experiment stays known, whichever of its files ran first."""

import pytest

from llm_jepa.experiments.cell_spec import RESULT_FILE
from llm_jepa.experiments.declared import (
    DECLARED_FILE,
    changes,
    declared_comparisons,
    declared_with,
    items_of,
    keep_declared,
)
from llm_jepa.experiments.significance import Contrast, verdicts
from llm_jepa.files.atomic import write_json

ARMS = ["lm_only", "pair", "tube"]
TRAINED = {arm: {"learning_rate": 1e-4} for arm in ARMS}


def items(arms=ARMS, seeds=(1, 2, 3, 4), threshold=0.9, longer="lm_only-20-steps", primary_score="strict"):
    experiment = {"seeds": seeds, "primary_score": primary_score, "threshold": threshold}
    return items_of(experiment, arms, contrasts(arms, longer))


def contrasts(arms=ARMS, longer="lm_only-20-steps"):
    baselines = {"equal_steps": "lm_only", "equal_flops": longer}
    return [Contrast(arm, baseline, budget) for budget, baseline in baselines.items() for arm in arms[1:]]


def finish(output_dir, *cells):
    for cell in cells:
        (output_dir / "cells" / cell).mkdir(parents=True)
        (output_dir / "cells" / cell / RESULT_FILE).write_text("{}")


def test_until_a_cell_is_finished_nothing_is_a_change(tmp_path):
    """An arm that cannot be trained is removed, and another seed named."""
    keep_declared(tmp_path, items(), TRAINED, 0)
    now = items(["lm_only", "pair"], [5])
    assert changes(keep_declared(tmp_path, now, TRAINED, 0), now) == []


def test_files_of_disjoint_seeds_side_by_side_are_no_change_of_the_whole(tmp_path):
    """Both start before a cell is finished; the second report of each comes after. The whole file comes last."""
    parts = items(seeds=[1, 2]), items(seeds=[3, 4])
    for part in parts:
        keep_declared(tmp_path, part, TRAINED, 0)
    finish(tmp_path, "lm_only/1", "lm_only/3")
    for part in parts:
        keep_declared(tmp_path, part, TRAINED, 0)
    finish(tmp_path, "pair/1", "pair/3")
    kept = keep_declared(tmp_path, parts[0], TRAINED, 0)
    assert changes(kept, parts[0]) == ["DECLARED TOO, and left out here: seed 3, seed 4."]
    assert changes(keep_declared(tmp_path, items(), TRAINED, 4), items()) == []


def test_seeds_that_are_added_after_cells_are_said_with_their_number(tmp_path):
    """A longer schedule of the baseline, which a costlier arm brings, makes no other contrast."""
    keep_declared(tmp_path, items(seeds=[1, 2]), TRAINED, 0)
    finish(tmp_path, "lm_only/1", "lm_only/2")
    now = items(longer="lm_only-30-steps")
    expected = ["CHANGED after 2 finished cells: seed 3, seed 4 added."]
    for before in (2, 3):
        assert changes(keep_declared(tmp_path, now, TRAINED, before), now) == expected


def test_a_control_that_the_scores_suggested_is_said(tmp_path):
    keep_declared(tmp_path, items(), TRAINED, 0)
    finish(tmp_path, "lm_only/1")
    now = [*items(), ("contrast", ["equal_steps", "pair", "tube"])]
    expected = ["CHANGED after 1 finished cell: pair against tube at equal steps added."]
    assert changes(keep_declared(tmp_path, now, TRAINED, 1), now) == expected


def test_cells_older_than_the_file_are_said(tmp_path):
    finish(tmp_path, "lm_only/1", "lm_only/2")
    expected = ["What was declared before 2 finished cells is not known."]
    assert changes(keep_declared(tmp_path, items(), TRAINED, 2), items()) == expected


@pytest.mark.parametrize("threshold", [0.9, None], ids=["arms are left out", "arms and the threshold are left out"])
def test_comparisons_left_out_stay_in_the_family(tmp_path, threshold):
    """Of two arms at two budgets, each by score, share and time, one remains: p is corrected for 2 x 2 + 2 x 2 + 4."""
    keep_declared(tmp_path, items(), TRAINED, 0)
    finish(tmp_path, "lm_only/1")
    now, left = items(["lm_only", "pair"], threshold=threshold), contrasts(["lm_only", "pair"])
    declared = keep_declared(tmp_path, now, TRAINED, 1)
    rows = {name: {seed: [seed % 2, 1, 0] for seed in range(5)} for name in ("pair", "lm_only", "lm_only-20-steps")}
    found = verdicts(
        left,
        rows,
        range(5),
        reaches=None if threshold is None else {},
        declared=declared_comparisons(declared["entries"], now),
    )
    assert {verdict.n_comparisons for verdict in found} == {12}
    assert len(found) == (2 if threshold is None else 6)
    assert (
        "here: arm tube." in changes(declared, now)[-1]
        or "here: arm tube, threshold 0.9." in changes(declared, now)[-1]
    )
    assert changes(declared, now)[-1].endswith("Comparisons left out stay in the family with p = 1.")


@pytest.mark.parametrize(
    ("now", "left_out"),
    [
        ({"seeds": [1, 2, 3]}, "seed 4"),
        ({"primary_score": "stopped"}, "primary score strict"),
        ({"arms": ["lm_only", "pair"]}, "arm tube"),
    ],
    ids=["seed", "primary score", "arm"],
)
def test_the_family_is_said_to_be_larger_where_it_is(tmp_path, now, left_out):
    """No threshold is declared. Comparisons of an arm and by a score stay; a seed has none of its own."""
    keep_declared(tmp_path, items(threshold=None), TRAINED, 0)
    finish(tmp_path, "lm_only/1")
    left = items(threshold=None, **now)
    declared = keep_declared(tmp_path, left, TRAINED, 1)
    is_larger = len(declared_comparisons(declared["entries"], left)) > len(contrasts(now.get("arms", ARMS)))
    said = changes(declared, left)[-1]
    assert said.startswith(f"DECLARED TOO, and left out here: {left_out}.")
    assert said.endswith("stay in the family with p = 1.") == is_larger == ("seeds" not in now)


def test_each_score_and_threshold_that_was_tried_makes_the_family_larger(tmp_path):
    """Two arms at two budgets by 3 scores and 2 thresholds, each by share and time: 4 x (3 + 4)."""
    keep_declared(tmp_path, items(threshold=None), TRAINED, 0)
    finish(tmp_path, "lm_only/1")
    tried = [("stopped", None), ("contains", 0.9), ("strict", 0.95)]
    for score, threshold in tried:
        now = items(primary_score=score, threshold=threshold)
        declared = keep_declared(tmp_path, now, TRAINED, 1)
    comparisons = declared_comparisons(declared["entries"], now)
    assert len({*comparisons}) == len(comparisons) == 4 * (3 + 4)
    assert {measure for _, measure in comparisons} == {
        "score", "share of seeds", "time", "score stopped", "score contains", "share of seeds 0.9", "time 0.9",
    }  # fmt: skip


def test_another_threshold_is_said_and_adds_comparisons(tmp_path):
    keep_declared(tmp_path, items(threshold=None), TRAINED, 0)
    finish(tmp_path, "lm_only/1")
    now = items(threshold=0.95)
    expected = ["CHANGED after 1 finished cell: threshold 0.95 added."]
    assert changes(keep_declared(tmp_path, now, TRAINED, 1), now) == expected
    later = items(threshold=0.9)
    assert changes(keep_declared(tmp_path, later, TRAINED, 1), later) == [
        "CHANGED after 1 finished cell: threshold 0.9 added.",
        "DECLARED TOO, and left out here: threshold 0.95. Comparisons left out stay in the family with p = 1.",
    ]


def test_a_look_at_the_results_declares_nothing(tmp_path):
    keep_declared(tmp_path, items(), TRAINED, 0)
    finish(tmp_path, "lm_only/1")
    before = (tmp_path / DECLARED_FILE).read_text()
    assert len(declared_with(tmp_path, items(seeds=[1, 2, 3, 4, 5]), TRAINED, 1)["entries"]) == len(items()) + 1
    assert (tmp_path / DECLARED_FILE).read_text() == before


def test_an_arm_run_again_with_other_settings_is_said(tmp_path):
    """Its cells are removed and it runs anew, twice; the last time as it was at first. Another arm stays."""
    keep_declared(tmp_path, items(), TRAINED, 0)
    finish(tmp_path, "lm_only/1", "lm_only/2", "tube/1")
    assert changes(keep_declared(tmp_path, items(), TRAINED, 0), items()) == []
    for rate, before in ((2e-4, 2), (1e-4, 3)):
        for _ in range(2):  # a report after each cell
            kept = keep_declared(tmp_path, items(), TRAINED | {"tube": {"learning_rate": rate}}, before)
    assert changes(kept, items()) == [
        "CHANGED after 2 finished cells: in arm tube `learning_rate` was 0.0001 and is 0.0002.",
        "CHANGED after 3 finished cells: in arm tube `learning_rate` was 0.0002 and is 0.0001.",
    ]


def test_settings_are_unknown_of_files_that_did_not_keep_them(tmp_path):
    finish(tmp_path, "lm_only/1")
    entries = keep_declared(tmp_path, items(), TRAINED, 0)["entries"]
    write_json({"unknown_before_cells": 0, "entries": entries}, tmp_path / DECLARED_FILE)
    assert changes(keep_declared(tmp_path, items(), TRAINED, 1), items()) == []
