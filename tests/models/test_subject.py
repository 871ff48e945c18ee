"""A model without a recipe is computed, asked and checked as the run that made it was."""

from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from llm_jepa.inference.export_checks import is_quantised
from llm_jepa.models.base_and_tuned import load_checkpoints, precision_name, weights_dtype
from llm_jepa.models.subject import read_subject, read_tuned
from llm_jepa.models.subject_checks import settings_and_directory
from llm_jepa.recipe import parse_recipe
from tests.evaluation.tiny_runs import save_recipe
from tests.models.test_merging import save_adapter
from tests.tiny import save_tiny_model, tiny_llama, tiny_tokenizer

DATA = ["--dataset_name", "d", "--source_column", "source", "--target_column", "target"]


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ({"bf16": False, "dtype": "float32"}, "float32"),
        ({"fp16": True, "bf16": False}, torch.float16),
        ({"learning_rate": 0.1}, torch.bfloat16),
        (None, "auto"),
    ],
    ids=["float32", "fp16", "unsaid", "no-record"],
)
def test_a_model_is_computed_in_the_precision_of_the_run_that_was_merged_or_as_it_is_stored(
    tmp_path, recorded, expected
):
    """TRL trains in bfloat16 where a recipe does not say."""
    merged = Path(save_tiny_model(tmp_path / "merged"))
    if recorded is not None:
        (merged / "run").mkdir()
        (merged / "run" / "recipe.yaml").write_text(yaml.safe_dump(recorded))
    assert weights_dtype(read_tuned(merged)[0]) == expected
    assert weights_dtype(read_subject(str(merged), DATA, None)[0]) == expected
    assert weights_dtype(read_subject(str(merged), [*DATA, "--fp16", "true"], None)[0]) == torch.float16


def test_a_precision_that_is_asked_for_is_that_of_the_evaluation(tmp_path):
    """`bf16: true` is of the training, and would hide it."""
    recipe = str(save_recipe(tmp_path, bf16=True))
    for given, expected in (
        ([], torch.bfloat16),
        (["--dtype", "float32"], "float32"),
        (["--dtype", "float32", "--bf16", "true"], torch.bfloat16),
    ):
        assert weights_dtype(read_subject(recipe, given, ["base"])[0]) == expected


def test_a_whole_model_is_loaded_as_it_is_whatever_its_run_quantised(tmp_path):
    """A merged run that was published and pulled has the run's recipe beside its weights."""
    merged = Path(save_tiny_model(tmp_path / "merged"))
    recipe = {"model_name_or_path": str(merged), "dataset_name": "d", "output_dir": "x", "bf16": False}
    quantised = {"use_peft": True, "load_in_4bit": True, "dtype": "float32"}
    (merged / "recipe.yaml").write_text(yaml.safe_dump(recipe | quantised))
    subject, checkpoint = read_tuned(merged)
    ((_, _, model),) = load_checkpoints(subject, [checkpoint], len(tiny_tokenizer()))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not is_quantised(merged)


def test_a_precision_says_how_the_weights_are_quantised(tmp_path):
    four_bits = parse_recipe([str(save_recipe(tmp_path, use_peft=True, load_in_4bit=True, bf16=True))])
    assert precision_name(four_bits) == "bfloat16, load_in_4bit"


def test_an_adapter_without_a_recipe_is_computed_as_its_base_is_stored(tmp_path):
    adapter = save_adapter(tmp_path / "adapter", save_tiny_model(tmp_path / "base"))
    for recipe, _ in (read_tuned(adapter), read_subject(str(adapter), DATA, None)):
        assert weights_dtype(recipe) == precision_name(recipe) == "auto"
        ((_, _, model),) = load_checkpoints(recipe, ["tuned"], len(tiny_tokenizer()))
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_what_is_refused_of_a_run_is_refused_of_its_merged_model(tmp_path):
    """Its settings are the run's, with the overrides; a model without a record has the overrides alone."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("source_view_column: words\ntask: qa\n")
    found = settings_and_directory(str(tmp_path), ["--task", "choice"])
    assert found == ({"source_view_column": "words", "task": "choice"}, tmp_path)
    assert settings_and_directory("team/model", ["--task", "choice"]) == ({"task": "choice"}, Path("team/model"))


def test_a_run_is_loaded_by_its_own_files_whatever_those_of_the_base_are_called(tmp_path):
    save_tiny_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    tiny_llama().save_pretrained(tmp_path / "model", variant="fp16")
    AutoModelForCausalLM.from_pretrained(tmp_path / "model", variant="fp16").save_pretrained(tmp_path / "run")
    recipe = parse_recipe([str(save_recipe(tmp_path, model_init_kwargs={"variant": "fp16"}))])
    found = [name for name, _, _ in load_checkpoints(recipe, ["base", "tuned"], len(tiny_tokenizer()))]
    assert found == ["base", "tuned"]
