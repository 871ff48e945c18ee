"""A run begins in a directory of its own, or goes on in it; anything else is refused and untouched."""

import pytest
from transformers.trainer import TRAINER_STATE_NAME

from llm_jepa.runs.output_directory import check_output_directory, holds_complete_run
from llm_jepa.runs.record import RECIPE_FILE, STATE_FILE


def test_an_output_directory_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        check_output_directory(tmp_path, {})
    with pytest.raises(ValueError, match="is a file"):
        check_output_directory(tmp_path / "thesis.tex", {})


def test_an_output_directory_may_be_absent_empty_or_differ_in_what_training_does_not_read(tmp_path):
    settings = {"seed": 1, "logging_steps": 5.0}
    check_output_directory(tmp_path / "absent", settings)
    check_output_directory(tmp_path, settings)
    (tmp_path / RECIPE_FILE).write_text("seed: 1\nreport_to: trackio\nrun_name: first\n")
    check_output_directory(tmp_path, settings)
    check_output_directory(tmp_path, settings | {"task": "regex", "dataset_test_split": "train[90%:]"})
    with pytest.raises(ValueError, match="`seed` is 1 there and 2 here"):
        check_output_directory(tmp_path, {"seed": 2})
    with pytest.raises(ValueError, match="`dataset_test_split` is not given there and 'dev' here"):
        check_output_directory(tmp_path, settings | {"eval_strategy": "epoch", "dataset_test_split": "dev"})


def test_a_run_is_complete_when_the_trainers_state_is_there_in_full(tmp_path):
    assert STATE_FILE == TRAINER_STATE_NAME
    assert not holds_complete_run(tmp_path)
    (tmp_path / STATE_FILE).write_text('{"global_step": ')
    assert not holds_complete_run(tmp_path)
    (tmp_path / STATE_FILE).write_text('{"global_step": 2}')
    assert holds_complete_run(tmp_path)
