"""A model cut down computes what the whole one computes without the other layers."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_jepa.models.cutting import cut_model
from llm_jepa.models.layer_selection import last_layers, spread_layers, weights_of_layers
from tests.architectures import tiny_model
from tests.tiny import tiny_tokenizer


def test_layers_at_even_distances_by_hand():
    assert spread_layers(30, 5) == [0, 7, 14, 22, 29]
    assert spread_layers(10, 4) == [0, 3, 6, 9]
    assert spread_layers(4, 4) == [0, 1, 2, 3]
    assert spread_layers(4, 1) == [0]


@pytest.mark.parametrize("prefix", ["", "model."])
def test_layers_are_numbered_from_the_first_that_is_kept(prefix):
    state = {f"{prefix}layers.{i}.mlp": torch.tensor(i) for i in range(16)} | {"norm": torch.tensor(-1)}
    kept = weights_of_layers(state, last_layers(16, 8))
    assert {name: int(value) for name, value in kept.items()} == {
        **{f"{prefix}layers.{i}.mlp": 8 + i for i in range(8)},
        "norm": -1,
    }


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_cut_model_is_the_whole_one_without_the_other_layers(name, tmp_path):
    layer_types = {"layer_types": ["sliding_attention", "full_attention"] * 2 + ["full_attention"]}
    model = tiny_model(name, num_hidden_layers=5, **(layer_types if name == "gemma3" else {}))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    model.save_pretrained(whole)
    tiny_tokenizer().save_pretrained(whole)
    layers, num_parameters = cut_model(str(whole), 3, cut)
    assert layers == [0, 2, 4]
    model.model.layers = nn.ModuleList(model.model.layers[layer] for layer in layers)
    model.config.num_hidden_layers = 3
    if name == "gemma3":
        model.config.layer_types = ["sliding_attention", "sliding_attention", "full_attention"]
    loaded = AutoModelForCausalLM.from_pretrained(cut).eval()
    ids = torch.arange(12)[None]
    torch.testing.assert_close(loaded(ids, use_cache=False).logits, model(ids, use_cache=False).logits)
    assert num_parameters == sum(parameter.numel() for parameter in loaded.parameters())
    assert len(AutoTokenizer.from_pretrained(cut)) == len(tiny_tokenizer())


def test_more_layers_than_there_are_and_models_without_layers_are_refused(tmp_path):
    for name, num_layers, message in [("llama", 3, "has 2. Give a number from 1 to 2"), ("gpt2", 1, "no `layers`")]:
        tiny_model(name).save_pretrained(tmp_path / name)
        with pytest.raises(ValueError, match=message):
            cut_model(str(tmp_path / name), num_layers, tmp_path)
