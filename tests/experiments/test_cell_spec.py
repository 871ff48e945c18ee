"""What makes a finished cell another cell."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.experiments.cell_spec import CellSpec, differences
from llm_jepa.experiments.cells import Series, series_cells, spec_of
from llm_jepa.experiments.common_rows import find_common_rows
from llm_jepa.experiments.spec_reading import read_experiment

SPEC = {
    "recipe": "r.yaml",
    "settings": {"learning_rate": 0.1, "task": "text"},
    "train_rows": "a",
    "test_rows": "b",
    "objective_file": None,
    "every_steps": None,
    "max_rows": None,
    "max_new_tokens": 4,
    "eval_batch_size": 8,
    "keep_model": False,
}


@pytest.mark.parametrize(
    ("change", "trains_anew", "evaluates_anew"),
    [
        ({"settings": {"learning_rate": 0.2, "task": "text"}}, True, False),
        ({"settings": {"learning_rate": 0.1, "task": "qa"}}, False, True),
        ({"settings": {"learning_rate": 0.1, "task": "text", "output_dir": "x", "report_to": "none"}}, False, False),
        ({"train_rows": "c"}, True, False),
        ({"test_rows": "c"}, False, True),
        ({"objective_file": "d"}, True, False),
        ({"version": "9"}, True, False),
        ({"every_steps": 5}, True, False),
        ({"max_rows": 3}, False, True),
        ({"max_new_tokens": 5}, False, True),
        ({"eval_batch_size": 1}, False, False),
        ({"keep_model": True}, False, False),
        ({"recipe": "moved/r.yaml"}, False, False),
    ],
    ids=str,
)
def test_what_trains_and_what_evaluates_anew(change, trains_anew, evaluates_anew):
    before, now = CellSpec(**SPEC), CellSpec(**SPEC | change)
    assert bool(differences(before.training(), now.training())) == trains_anew
    assert bool(differences(before.evaluation(), now.evaluation())) == evaluates_anew


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
)
def test_nothing_differs_between_equal_settings_alone(before, now):
    assert (differences(before, now) == "") == (before == now)


@pytest.mark.parametrize("others", [[], ["tube"]], ids=["alone", "beside tube"])
def test_the_file_of_an_own_objective_is_part_of_a_cell(others, written, tmp_path):
    file = tmp_path / "own.py"
    file.write_text("from llm_jepa.objectives.pair import PairObjective\nclass Own(PairObjective):\n    pass\n")
    arms = {"lm_only": {"jepa_weight": 0}, "own": {"jepa_objective": [*others, f"{file}:Own"]}}
    experiment = read_experiment(written("own", arms=arms))
    common = find_common_rows(experiment)
    cell = series_cells(experiment, Series("own"), {})[1]
    before = spec_of(experiment, common, cell)
    file.write_text(file.read_text() + "# another\n")
    now = spec_of(experiment, common, cell)
    assert "`the objective's file` was" in differences(before.training(), now.training())


@pytest.mark.parametrize("change", [{"max_new_tokens": 5}, {"max_rows": 2}, {"test_rows": "other"}])
def test_limits_of_evaluation_are_part_of_a_training_that_is_evaluated_on_its_way(change):
    """Points of a curve with other limits would be of another score than the last one."""
    watched = CellSpec(**SPEC | {"every_steps": 1})
    assert differences(watched.training(), replace(watched, **change).training()) != ""
    assert differences(watched.training(), replace(watched, eval_batch_size=1).training()) == ""
