"""What loading mends or refuses."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from llm_jepa import JEPAConfig
from llm_jepa.models.loading import drop_idle_sampling, load_tokenizer, meta_model
from llm_jepa.models.random_weights import random_model
from llm_jepa.recipe import parse_recipe
from tests.evaluation.tiny_runs import save_recipe
from tests.tiny import save_tiny_model, tiny_llama


def test_missing_tokenizer_is_a_clear_error(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="No tokenizer could be loaded from"):
        load_tokenizer(str(tmp_path / "model"))


def test_sampling_fields_that_are_idle_do_not_stand_in_the_way_of_saving(tmp_path):
    """Many models have `do_sample: false` with a temperature: transformers loads that but refuses to save it."""
    sampling = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "top_k": 20}
    (tmp_path / "generation_config.json").write_text(json.dumps(sampling))
    model = tiny_llama()
    model.generation_config = GenerationConfig.from_pretrained(tmp_path)
    model.generation_config.eos_token_id = 5
    with pytest.raises(ValueError, match="temperature"):
        model.save_pretrained(tmp_path)
    drop_idle_sampling(model)
    model.save_pretrained(tmp_path)
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == 5


def test_a_dtype_of_auto_is_that_of_the_configuration(tmp_path):
    """Where no weights are read too: in a plan, and from scratch."""
    base = save_tiny_model(tmp_path / "model")
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(base)
    recipe = parse_recipe([str(save_recipe(tmp_path, dtype="auto"))])
    args = JEPAConfig(str(tmp_path / "run"), from_scratch=True, model_init_kwargs={"dtype": "auto"}, bf16=False)
    assert meta_model(recipe, base).dtype == torch.bfloat16
    assert random_model(base, args, None)[0].dtype == torch.bfloat16


def test_changes_of_the_config_mean_the_same_in_a_plan_and_from_scratch(tmp_path):
    base, changes = save_tiny_model(tmp_path / "model"), {"num_hidden_layers": 1, "use_cache": False}
    recipe = parse_recipe([str(save_recipe(tmp_path, model_init_kwargs=changes))])
    args = JEPAConfig(str(tmp_path / "run"), from_scratch=True, model_init_kwargs=dict(changes), bf16=False)
    planned, trained = meta_model(recipe, base), random_model(base, args, None)[0]
    for model in (planned, trained):
        assert len(model.model.layers) == 1
        assert model.config.use_cache is False
    assert trained.dtype == torch.float32


def test_a_setting_that_only_loaded_weights_have_is_refused_from_scratch(tmp_path):
    base = save_tiny_model(tmp_path / "model")
    args = JEPAConfig(str(tmp_path / "run"), from_scratch=True, model_init_kwargs={"device_map": "cpu"}, bf16=False)
    with pytest.raises(ValueError, match="`model_init_kwargs` has `device_map`, which has no effect with `from"):
        random_model(base, args, None)
