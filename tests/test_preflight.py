"""A recipe that cannot be trained is refused before any work, and the Hub is asked last."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llm_jepa.preflight import check_files, check_run
from llm_jepa.recipe import parse_recipe
from llm_jepa.settings.checks import check_recipe
from llm_jepa.settings.reading import recipe_text
from tests.evaluation.tiny_runs import save_recipe
from tests.tiny import PAIRS, save_tiny_model


@pytest.fixture
def recipe(tmp_path) -> Path:
    """A recipe that can be trained but not published: its base is on this machine alone."""
    save_tiny_model(tmp_path / "model")
    (tmp_path / "data").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return save_recipe(tmp_path, use_peft=True, push_to_hub=True, hub_model_id="team/trained")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--output_dir={}/recipe.yaml", "is a file. Name a directory"),
        ("--output_dir={}/recipe.yaml/out", "lies under `.*recipe.yaml`, which is a file. Name another directory"),
        ("--resume_from_checkpoint={}/none", "is no checkpoint, or not whole"),
        ("--dataset_name={}/rows.jsonl", "There is no file or directory `.*rows.jsonl`"),
        ("--dataset_name={}/empty", "has no file that ends in"),
        ("--model_name_or_path={}/none", "`model_name_or_path: .*none` is no directory"),
        ("--model_name_or_path={}/data", "`model_name_or_path: .*data` holds no model: none of config.json"),
        (
            "--dataset_test_split=validation",
            "`dataset_test_split: validation`: `.*data` has only `train`. Name one of",
        ),
        ("--dataset_test_split=train[:2]+dev", r"`dataset_test_split: train\[:2\]\+dev`: .* has only `train`"),
        ("--dataset_name={0}/data/train.jsonl --dataset_test_split=test", "`.*train.jsonl` has only `train`"),
        ("--eval_strategy=epoch", "`dataset_test_split: test`: `.*data` has only `train`"),
        ("--report_to=nothing", "`report_to: nothing` names no tracker"),
        ("--chat_template_path={}/none.jinja", "`chat_template_path: .*none.jinja` is no file"),
        ("--chat_template_path={}/none", "`chat_template_path: .*none` is no file or directory"),
        ("--dataset_streaming=true --max_steps=-1", "`dataset_streaming: true` needs `max_steps`"),
        ("--use_liger_kernel=true", "`use_liger_kernel: true` needs the package liger-kernel, which is not installed"),
        ("--optim=schedule_free_adamw", "`optim: schedule_free_adamw` needs the package schedulefree"),
        ('--accelerator_config={{"dispatch_batches":true}}', "`dispatch_batches: true` splits a batch"),
    ],
)
def test_what_this_machine_can_tell_is_refused_without_asking_the_hub(hub, recipe, override, message):
    before = sorted(recipe.parent.rglob("*"))
    with pytest.raises(ValueError, match=message):
        check_run(parse_recipe([str(recipe), *override.format(recipe.parent).split()]))
    assert hub.calls == []
    assert sorted(recipe.parent.rglob("*")) == before


@pytest.mark.parametrize("key", ["deepspeed", "fsdp_config", "accelerator_config"])
def test_a_configuration_that_is_no_file_is_refused(recipe, key):
    with pytest.raises(ValueError, match=f"`{key}: none.json` is not a file. Name a JSON file, or give a mapping"):
        check_files(check_recipe(recipe, [f"--{key}", "none.json"]))
    offline = ["--push_to_hub", "false"]
    (recipe.parent / "there.json").write_text("{}")
    for allowed in (str(recipe.parent / "there.json"), "{}"):
        check_files(check_recipe(recipe, [f"--{key}", allowed, *offline]))


def test_missing_data_are_named_before_the_settings_that_differ(recipe):
    """A run whose data are gone is no run with other settings; a complete one needs them no more."""
    settings = check_recipe(recipe, ["--push_to_hub", "false"])
    settings["output_dir"] = str(recipe.parent / "out")
    (recipe.parent / "out").mkdir()
    (recipe.parent / "out" / "recipe.yaml").write_text(recipe_text(settings))
    (recipe.parent / "data" / "train.jsonl").unlink()
    with pytest.raises(ValueError, match="has no file that ends in"):
        check_files(settings)
    (recipe.parent / "out" / "trainer_state.json").write_text('{"global_step": 1}')
    check_files(settings)
    with pytest.raises(ValueError, match="has no file that ends in"):
        check_files(settings | {"seed": 1})


def test_the_launcher_is_checked_before_the_hub_is_asked(hub, recipe, monkeypatch):
    read = parse_recipe([str(recipe)])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="started 2 processes that do not work together"):
        check_run(read)
    assert hub.calls == []


def test_what_could_not_be_published_is_refused_last(hub, recipe):
    with pytest.raises(ValueError, match=r"base is .*, which is not on the Hub"):
        check_run(parse_recipe([str(recipe)]))
    assert hub.calls != []
    check_run(parse_recipe([str(recipe), "--push_to_hub", "false"]))


def test_the_files_are_checked_without_torch():
    """It takes seconds to import."""
    code = "import sys, llm_jepa.preflight; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
