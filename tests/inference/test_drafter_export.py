"""The exported drafter is EAGLE's: a plain-torch EAGLE with its files drafts what `llm-jepa generate` drafts."""

import json

import pytest
import torch
from safetensors.torch import load_file

from llm_jepa.inference.drafter_export import export_drafter
from llm_jepa.inference.latent_drafts import DraftHead, rollout_of
from llm_jepa.models.latent_predictor import DRAFT_TOKENS, facts_of, write_latent_predictor
from llm_jepa.settings.objectives import DYNAMICS_OPTIONS
from tests.architectures import tiny_model
from tests.eagle import EagleReference
from tests.inference.drafters import prompts, trained_dynamics, untrained_dynamics
from tests.models.test_merging import save_adapter
from tests.tiny import save_tiny_model, tiny_llama, tiny_tokenizer

OPTIONS = dict(zip(DYNAMICS_OPTIONS, ("decoder_layer", 1, None, 1), strict=True))


def save_run(directory, model, dynamics, objectives=("next_latent",)):
    """A model with a drafter beside it."""
    model.save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    write_drafter(directory, model, dynamics, objectives)


def write_drafter(directory, model, dynamics, objectives=("next_latent",)):
    facts = facts_of(model, tiny_tokenizer(), objectives, OPTIONS | {"latent_depth": len(dynamics.layers)})
    prefix = "next_latent." if len(objectives) > 1 else ""
    weights = {prefix + name: value for name, value in dynamics.state_dict().items()}
    write_latent_predictor(directory, facts, weights | {DRAFT_TOKENS: torch.arange(3, 48)})


@pytest.mark.parametrize("depth", [1, 2])
def test_eagle_drafts_the_states_and_tokens_that_we_draft(tmp_path, depth):
    """After a prompt, and after the model has verified some drafts; with fewer key heads than heads."""
    model = tiny_llama().requires_grad_(False)
    dynamics = trained_dynamics(model, "decoder_layer", depth=depth).requires_grad_(False)
    save_run(tmp_path / "run", model, dynamics)
    export_drafter(tmp_path / "run", tmp_path / "drafter")
    reference = EagleReference(tmp_path / "drafter")
    table_VD, head_VD = model.get_input_embeddings().weight, model.get_output_embeddings().weight

    (text,) = model.generate(prompts()[0], max_new_tokens=4, do_sample=False, eos_token_id=[])
    hidden_SD = model.model(text[None, :-1]).last_hidden_state[0]
    rollout, head, start = rollout_of(dynamics), DraftHead(model, None), 0
    for end in (len(text) - 4, len(text) - 1):  # before the first new token, before the fourth
        drafted, states = reference.drafts(hidden_SD[:end], text[1 : end + 1].tolist(), table_VD, head_VD, 4)
        state_11D = rollout.verified(hidden_SD[None, start:end], table_VD[text[None, start + 1 : end + 1]])
        for token, expected_D in zip(drafted, states, strict=True):
            torch.testing.assert_close(state_11D[0, 0], expected_D, atol=1e-5, rtol=0)
            assert head.token(state_11D).item() == token
            state_11D = rollout.drafted(state_11D, table_VD[token][None, None])
        start = end


def test_names_shapes_and_config_are_those_that_vllm_loads(tmp_path):
    """`fc` and the layers as a Llama's, no first norm, no embeddings and no head: vLLM shares the model's."""
    dynamics = untrained_dynamics(tiny_llama(), "decoder_layer")
    save_run(tmp_path / "run", tiny_llama(), dynamics, ("pair", "next_latent"))
    export_drafter(tmp_path / "run", tmp_path / "drafter", "bfloat16")
    weights = load_file(tmp_path / "drafter" / "model.safetensors")
    assert {name: tuple(value.shape) for name, value in weights.items()} == {
        "fc.weight": (32, 64),
        "layers.0.self_attn.q_proj.weight": (32, 32),
        "layers.0.self_attn.k_proj.weight": (16, 32),
        "layers.0.self_attn.v_proj.weight": (16, 32),
        "layers.0.self_attn.o_proj.weight": (32, 32),
        "layers.0.post_attention_layernorm.weight": (32,),
        "layers.0.mlp.gate_proj.weight": (64, 32),
        "layers.0.mlp.up_proj.weight": (64, 32),
        "layers.0.mlp.down_proj.weight": (32, 64),
    }
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    config = json.loads((tmp_path / "drafter" / "config.json").read_text())
    expected = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 32,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 64,
        "vocab_size": 320, "max_position_embeddings": 512, "dtype": "bfloat16", "attention_bias": False,
    }  # fmt: skip
    assert {name: config[name] for name in expected} == expected


def test_the_drafter_of_an_adapter_has_the_vocabulary_of_the_merged_model(tmp_path):
    base = save_tiny_model(tmp_path / "base", vocab_size=300)
    adapter = save_adapter(tmp_path / "adapter", base)
    write_drafter(adapter, tiny_llama(), untrained_dynamics(tiny_llama(), "decoder_layer"))
    export_drafter(adapter, tmp_path / "drafter")
    assert json.loads((tmp_path / "drafter" / "config.json").read_text())["vocab_size"] == 320


@pytest.mark.parametrize(("architecture", "reason"), [
    ("gemma3", "multiplies its token embeddings"),
    ("phi", "has an LM head with a bias"),
])  # fmt: skip
def test_a_model_whose_embeddings_or_head_vllm_would_read_otherwise_is_refused(tmp_path, architecture, reason):
    model = tiny_model(architecture, vocab_size=320)
    save_run(tmp_path / "run", model, untrained_dynamics(model, "decoder_layer"))
    with pytest.raises(ValueError, match=reason):
        export_drafter(tmp_path / "run", tmp_path / "drafter")
    assert not (tmp_path / "drafter").exists()
