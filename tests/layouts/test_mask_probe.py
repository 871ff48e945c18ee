"""The probe's verdict for many architectures, and that it is true of the model itself."""

import pytest
import torch
from transformers import CONFIG_MAPPING, PreTrainedModel

from llm_jepa.data.views import TokenSequence
from llm_jepa.layouts import Batch, Example, Layout, PackedLayout, RowsLayout
from llm_jepa.layouts.mask_probe import _tiny_config, probe_flat_form, probe_mask_form
from llm_jepa.layouts.masks import MaskForm
from tests.architectures import VOCABULARY_TOKENS, WINDOW_TOKENS, tiny_model

EXPECTED_KINDS = {
    "llama": "plain",
    "qwen2": "plain",
    "qwen2-window": "by_layer_type",
    "qwen3": "plain",
    "mistral": "windowed",
    "gemma2": "by_layer_type",
    "gemma3": "by_layer_type",
    "olmo2": "plain",
    "phi": "plain",
    "gpt2": "plain",
    "mixtral": "plain",
    "qwen3-moe": "plain",
    "olmoe": "plain",
}
WINDOWED = [name for name, kind in EXPECTED_KINDS.items() if kind != "plain"]


def plain(token_ids: list[int]) -> TokenSequence:
    return TokenSequence(tuple(token_ids), (0,) * len(token_ids))


def long_example() -> Example:
    """A conversation four windows long, a branch that forks off in its middle, one at its first token.

    Each branch is a view at several lengths, the first of them one token behind the fork.
    """
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, VOCABULARY_TOKENS, (3, 4 * WINDOW_TOKENS), generator=generator).tolist()
    forks = [(ids[1], 2 * WINDOW_TOKENS), (ids[2], 1)]
    views = [plain([*ids[0][:fork], *own[:length]]) for own, fork in forks for length in (1, 2, 5, len(own))]
    return Example(plain(ids[0]), ids[0], tuple(views))


def hidden_states(model: PreTrainedModel, layout: Layout, form: MaskForm) -> torch.Tensor:
    """Of the conversation's tokens and the readouts."""
    batch = layout.lay_out([long_example()])
    with torch.no_grad():
        output = model.base_model(**batch.backbone_inputs(form), use_cache=False)
    hidden_PD = output.last_hidden_state.flatten(0, 1)
    return hidden_PD[torch.cat([batch.conversation_positions_C, batch.view_readouts_VN.flatten()])]


def packed_error(model: PreTrainedModel, form: MaskForm) -> float:
    """How far the packed row is off the plain rows, at worst."""
    packed_TD = hidden_states(model, PackedLayout(0), form)
    return (packed_TD - hidden_states(model, RowsLayout(0), MaskForm("padding"))).abs().max().item()


@pytest.mark.parametrize(("name", "kind"), EXPECTED_KINDS.items())
def test_form_is_found_and_right_for_the_model_itself(name: str, kind: str):
    """On sequences far beyond the window, at 1e-4, where the probe tried a narrower copy."""
    model = tiny_model(name)
    form = probe_mask_form(model).form
    assert form is not None
    assert form.kind == kind
    assert packed_error(model, form) < 1e-4


def test_window_that_no_probe_could_fill_is_found():
    """A real model's window is thousands of tokens; the copy's is narrower."""
    form = probe_mask_form(tiny_model("mistral", sliding_window=4096)).form
    assert form.kind == "windowed"
    assert form.window_tokens == 4096


@pytest.mark.parametrize("name", WINDOWED)
def test_form_has_the_models_own_window(name: str):
    """Not that of the tiny copy."""
    form = probe_mask_form(tiny_model(name)).form
    assert form.window_tokens == WINDOW_TOKENS


@pytest.mark.parametrize("name", WINDOWED)
def test_mask_without_the_window_is_wrong_for_these_models(name: str):
    """Which is why the probe must not stop at the first mask that is accepted."""
    model = tiny_model(name)
    values = "additive" if model.config._attn_implementation == "eager" else "boolean"
    assert packed_error(model, MaskForm("plain", values)) > 0.1


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_eager_attention_gets_an_additive_mask(name: str):
    """A boolean one is silently wrong there."""
    model = tiny_model(name, attn_implementation="eager")
    form = probe_mask_form(model).form
    assert form.values == "additive"
    assert packed_error(model, form) < 1e-4


@pytest.mark.parametrize("name", ["mamba2", "falcon-h1", "qwen3-next"])
def test_recurrent_and_hybrid_models_have_no_form(name: str):
    """A recurrent state runs through the branches whatever the mask says; the reason tells by how much."""
    probe = probe_mask_form(tiny_model(name))
    assert probe.form is None
    assert "does not keep the branches of a packed row apart" in probe.reason


def test_a_window_by_another_name_has_no_form():
    """GPT-Neo's `window_size` of 256 is longer than any sequence of the probe: it shows only when made narrow."""
    probe = probe_mask_form(tiny_model("gpt-neo"))
    assert probe.form is None
    assert "does not keep the branches of a packed row apart" in probe.reason


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("llama4_text", "attention_chunk_size"),
        ("recurrent_gemma", "attention_window_size"),
        ("modernbert-decoder", "local_attention"),
        ("doge", "keep_window_size"),
        ("mistral", "sliding_window"),
    ],
)
def test_the_copys_window_is_shorter_than_the_probes_sequences(model_type: str, name: str):
    config = CONFIG_MAPPING[model_type](**{name: 4096})
    assert getattr(_tiny_config(config), name) < 10


def test_our_own_mistakes_are_no_verdict_on_the_architecture(monkeypatch):
    """Only what the copy itself raises is."""

    def mistake(*_):
        raise TypeError("our mistake")

    monkeypatch.setattr(MaskForm, "build", mistake)
    with pytest.raises(TypeError, match="our mistake"):
        probe_mask_form(tiny_model("llama"))


def test_model_without_position_ids_has_no_form():
    """Bloom's ALiBi goes by the distance in the row."""
    probe = probe_mask_form(tiny_model("bloom"))
    assert probe.form is None
    assert "takes no mask of four dimensions with position ids" in probe.reason


def test_model_that_cannot_be_made_narrow_has_no_form():
    """Gemma 4 has another head width per layer; the reason names the architecture."""
    probe = probe_mask_form(tiny_model("gemma4"))
    assert probe.form is None
    assert "no tiny copy of Gemma4ForCausalLM" in probe.reason


def with_attention(model: PreTrainedModel, attention: str) -> PreTrainedModel:
    """As if loaded with it; its kernels need not be there."""
    model.config._attn_implementation = attention
    return model


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2"])
def test_flex_attention_gets_a_block_mask(name: str):
    """Whose forward is exact on the CPU, soft cap and window included."""
    model = tiny_model(name)
    rows_TD = hidden_states(model, RowsLayout(0), MaskForm("padding"))
    form = probe_mask_form(with_attention(model, "flex_attention")).form
    assert (form.kind, form.values) == (EXPECTED_KINDS[name], "block")
    with torch.compiler.set_stance("force_eager"):
        packed_TD = hidden_states(model, PackedLayout(0), form)
    torch.testing.assert_close(packed_TD, rows_TD, atol=1e-4, rtol=0)


def test_model_that_does_not_support_flex_attention_has_no_form():
    """GPT-2 is one."""
    probe = probe_mask_form(with_attention(tiny_model("gpt2"), "flex_attention"))
    assert probe.form is None
    assert "does not support" in probe.reason


@pytest.mark.parametrize("attention", ["flash_attention_2", "kernels-community/flash-attn2"])
def test_flash_attention_takes_no_arbitrary_mask(attention: str):
    """It would pass it over."""
    probe = probe_mask_form(with_attention(tiny_model("llama"), attention))
    assert probe.form is None
    assert f"attention `{attention}` takes no arbitrary mask" in probe.reason


# --- sequences end to end, under flash attention


@pytest.mark.parametrize("name", EXPECTED_KINDS)
@pytest.mark.parametrize("attention", ["flash_attention_2", "kernels-community/flash-attn2"])
def test_flat_row_is_possible_where_attention_alone_mixes_tokens(name: str, attention: str):
    """Windows, soft caps and the experts of a mixture included; no mask is built."""
    probe = probe_flat_form(with_attention(tiny_model(name), attention))
    assert probe.form == MaskForm("positions")
    assert probe.reason == f"no mask, {attention}"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mamba2", "does not support flash attention"),
        ("bloom", "does not support flash attention"),
        ("falcon-h1", "does not keep the sequences of a flat row apart"),
        ("qwen3-next", "takes no bounds of sequences with position ids"),
        ("gpt-neo", "takes no bounds of sequences with position ids"),
    ],
)
def test_flat_row_is_refused_elsewhere(name: str, reason: str):
    """A recurrent state or a convolution runs on into the next sequence, whatever bounds the attention gets."""
    probe = probe_flat_form(with_attention(tiny_model(name), "flash_attention_2"))
    assert probe.form is None
    assert reason in probe.reason


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
def test_flat_row_needs_flash_attention(attention: str):
    """Transformers would make a mask of all pairs of tokens of the micro-batch."""
    probe = probe_flat_form(with_attention(tiny_model("llama"), attention))
    assert probe.form is None
    assert f"attention `{attention}` would need a mask that grows with the square" in probe.reason


def test_flat_row_needs_position_ids_that_begin_anew(monkeypatch):
    """With ids that run on, rotary embeddings are relative and still right; learned ones are not."""
    backbone_inputs = Batch.backbone_inputs

    def running_on(batch: Batch, form: MaskForm):
        inputs = backbone_inputs(batch, form)
        if form.kind == "positions":
            inputs["position_ids"] = torch.arange(inputs["position_ids"].numel())[None].clamp(max=127)
        return inputs

    monkeypatch.setattr(Batch, "backbone_inputs", running_on)
    assert probe_flat_form(with_attention(tiny_model("gpt2"), "flash_attention_2")).form is None


def test_one_layer_of_sliding_attention_suffices():
    """A wrong window right behind a fork shows in the first layer alone; deeper models spread it."""
    model = tiny_model("mistral", num_hidden_layers=1)
    form = probe_mask_form(model).form
    assert form.kind == "windowed"
    assert packed_error(model, form) < 1e-4


def test_probe_is_exact_whatever_surrounds_it():
    """Autocast would round by more than its tolerance."""
    with torch.autocast("cpu", torch.bfloat16):
        assert probe_mask_form(tiny_model("llama")).form == MaskForm("plain")


def test_probe_leaves_no_trace():
    """Neither the global random state nor the model changes, and the model is not run."""
    model = tiny_model("gemma3")
    calls = []
    model.base_model.register_forward_pre_hook(lambda *_: calls.append(1))
    config_before, random_before = model.config.to_dict(), torch.get_rng_state()
    weights_before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    probe_mask_form(model)
    assert calls == []
    assert torch.equal(torch.get_rng_state(), random_before)
    assert model.config.to_dict() == config_before
    assert all(torch.equal(parameter, weights_before[name]) for name, parameter in model.named_parameters())


def test_wide_and_deep_config_is_probed_at_its_tiny_size():
    """The verdict is on the architecture: weights of the real size are never made."""
    model = tiny_model("gemma3")
    model.config.hidden_size = 1 << 20  # a matrix of 2^40 numbers could not be allocated
    model.config.num_hidden_layers = 600
    model.config.layer_types = ["sliding_attention", "full_attention"] * 300
    assert probe_mask_form(model).form.kind == "by_layer_type"
