"""The predictor is the last layers of a causal LM, and every position sees every other one."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, FalconH1Config, LlamaModel, MambaConfig

from llm_jepa.vision.predictor import load_language_model, load_predictor, predictor_config, refuse_causal_mask
from tests.vision.tiny_parts import LANGUAGE, config_of, saved

every_language_model = pytest.mark.parametrize("name", LANGUAGE)


@every_language_model
def test_the_last_layers_with_embeddings_and_norm_are_taken(name):
    whole = AutoModelForCausalLM.from_pretrained(saved(name)).base_model
    cut = load_predictor(saved(name), 2, "pretrained")
    assert len(cut.layers) == cut.config.num_hidden_layers == 2
    for mine, its in zip(cut.layers, whole.layers[2:], strict=True):
        assert all(map(torch.equal, mine.state_dict().values(), its.state_dict().values()))
    assert torch.equal(cut.embed_tokens.weight, whole.embed_tokens.weight)
    assert torch.equal(cut.norm.weight, whole.norm.weight)


@every_language_model
def test_random_weights_keep_the_embeddings_alone(name):
    whole, cut = load_predictor(saved(name), 2, "pretrained"), load_predictor(saved(name), 2, "random")
    assert torch.equal(cut.embed_tokens.weight, whole.embed_tokens.weight)
    name = "layers.0.mlp.up_proj.weight"
    assert not torch.equal(cut.state_dict()[name], whole.state_dict()[name])


@every_language_model
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_position_sees_every_other_one_but_padding(name, attention):
    """A change of the last token changes the first state; a change of padding changes none."""
    predictor = load_predictor(saved(name), 2, "pretrained").eval()
    predictor.set_attn_implementation(attention)
    embeds = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[1, 4:] = 0

    def states(changed: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return predictor(inputs_embeds=changed, attention_mask=mask).last_hidden_state

    before, other = states(embeds), embeds.clone()
    other[:, 5] += 1
    after = states(other)
    assert not torch.allclose(before[0, 0], after[0, 0], atol=1e-4)
    torch.testing.assert_close(before[1, :4], after[1, :4])
    alone = predictor(inputs_embeds=embeds[1:, :4]).last_hidden_state
    torch.testing.assert_close(before[1, :4], alone[0])


@pytest.mark.parametrize("layers", [-1, 5])
def test_more_layers_than_there_are_is_refused(layers):
    with pytest.raises(ValueError, match=f"`predictor_layers` is {layers}; it must be from 0 to 4, the layers"):
        predictor_config(config_of("llama"), layers)


def test_values_of_each_layer_are_cut_with_the_layers():
    config = AutoConfig.from_pretrained(saved("qwen3"))
    config.layer_types = ["full_attention", "full_attention", "sliding_attention", "full_attention"]
    assert predictor_config(config, 2).layer_types == ["sliding_attention", "full_attention"]


def test_a_model_that_keeps_its_causal_mask_is_refused():
    config = predictor_config(config_of("llama"), 2)
    config.is_causal = True
    with pytest.raises(ValueError, match=r"`language_model: it` \(llama\) keeps its causal mask"):
        refuse_causal_mask(LlamaModel(config), "it")


RECURRENT = {
    "mamba": MambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=64, state_size=4),
    "falcon_h1": FalconH1Config(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, vocab_size=64, num_attention_heads=2,
        num_key_value_heads=1, mamba_d_ssm=16, mamba_n_heads=2, mamba_d_head=8, mamba_d_state=4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECURRENT)
def test_a_token_vlm_of_recurrent_layers_is_refused_when_it_is_made(name, tmp_path):
    """Alone or beside attention."""
    AutoModelForCausalLM.from_config(RECURRENT[name]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"`language_model: .*` \({name}\) has recurrent layers"):
        load_language_model(str(tmp_path), 2, "pretrained")
