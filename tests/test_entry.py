"""How programs of the package begin."""

import gc
import importlib

import pytest
import yaml

from llm_jepa import cli, train
from llm_jepa.entry import imports_uncollected
from tests.tiny import save_tiny_model


def is_collected(marker: list) -> bool:
    """Whether garbage collections go through an object."""
    return any(one is marker for one in gc.get_objects())


def test_no_garbage_is_collected_during_imports_and_it_is_again_after_one_that_fails():
    with imports_uncollected():
        assert not gc.isenabled()
    with pytest.raises(ImportError), imports_uncollected():
        importlib.import_module("llm_jepa.absent")
    assert gc.isenabled()
    assert is_collected([])
    gc.disable()
    try:
        with imports_uncollected():
            pass
        assert not gc.isenabled(), "who had turned it off keeps it off"
    finally:
        gc.enable()


def test_what_a_command_has_imported_is_left_out_of_garbage_collections(capsys):
    marker: list = []
    assert is_collected(marker)
    assert cli.main(["env"]) == 0
    assert not is_collected(marker)


def test_what_training_has_imported_is_left_out_of_garbage_collections(tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    settings = {
        "model_name_or_path": save_tiny_model(tmp_path / "model"),
        "dataset_name": str(tmp_path / "rows.jsonl"),
        "output_dir": str(tmp_path / "out"),
        "jepa_layout": "flat",
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    marker: list = []
    with pytest.raises(SystemExit):
        train.main([str(tmp_path / "recipe.yaml")])
    assert "flat" in capsys.readouterr().err
    assert not is_collected(marker)
