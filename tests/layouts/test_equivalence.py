"""All layouts against separate calls of the plain model: embeddings, log-probabilities and every gradient."""

import copy
import itertools
from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import PreTrainedModel
from trl.trainer import utils as trl_utils

from llm_jepa.layouts.mask_probe import probe_mask_form
from tests.architectures import tiny_model
from tests.devices import on_device
from tests.view_models import (
    EARLIER_LAYERS,
    IGNORED,
    MEANS,
    SETTINGS,
    Prepared,
    Setting,
    assert_agree,
    flat,
    gradients_of,
    in_rows,
    packed,
    plain_computation,
    rows,
)

PACKABLE = [
    "llama",
    "qwen2",
    "qwen2-window",
    "qwen3",
    "mistral",
    "gemma2",
    "gemma3",
    "olmo2",
    "phi",
    "gpt2",
    "mixtral",
    "qwen3-moe",
    "olmoe",
]
MIXTURES = ["mixtral", "qwen3-moe", "olmoe"]
NOT_IN_FLOAT64 = {*MIXTURES, "gemma2"}
"""The experts' grouped product takes no float64; Gemma 2's eager attention gives NaN for padding in it."""


def check_layouts(
    name: str, dtype: torch.dtype, tolerance: float, with_lm: bool = True, settings: Sequence[Setting] = SETTINGS
) -> None:
    """Both layouts against the plain computation, in every setting."""
    model = tiny_model(name, dtype=dtype)
    form = probe_mask_form(model).form
    for setting in settings:
        runs = [packed(model, setting, form), in_rows(model, setting)]
        if setting.source_view == "alone":
            runs.append(packed(model, setting, form, break_even_tokens=0))
        expected = plain_computation(model, runs[0].predictor, setting, with_lm)
        for run in runs:
            assert_agree(run.compute(with_lm), expected, tolerance, with_lm)


@pytest.mark.parametrize("name", PACKABLE)
def test_both_layouts_equal_separate_forwards(name: str):
    """Embeddings, log-probabilities and every gradient, in float32, for every kind of view and target."""
    check_layouts(name, torch.float32, tolerance=1e-4)


@pytest.mark.parametrize("name", sorted({*PACKABLE} - NOT_IN_FLOAT64))
def test_both_layouts_equal_separate_forwards_in_float64(name: str):
    """What remains is TRL's head and most models' norms, which compute in float32 whatever they are given."""
    check_layouts(name, torch.float64, tolerance=1e-5, settings=SETTINGS[::3])


@pytest.mark.parametrize("name", ["phi", "gpt2"])
def test_embeddings_and_their_gradients_are_exact(name: str):
    """Without the head, in models whose every operation is in float64, only rounding at 1e-16 remains."""
    check_layouts(name, torch.float64, tolerance=1e-12, with_lm=False)


@pytest.mark.parametrize("name", PACKABLE)
def test_flat_layout_equals_separate_forwards(name: str):
    """Under the reference for variable-length flash attention, which sees bounds of sequences and no mask."""
    model = tiny_model(name)
    for setting in SETTINGS:
        run = flat(model, setting)
        assert_agree(run.compute(), plain_computation(model, run.predictor, setting), tolerance=1e-4)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_the_mean_over_a_views_content_is_the_same_in_all_layouts(name: str):
    """Shared tokens count in each view that has them, headers and predictor tokens in none."""
    check_all_layouts(name, MEANS)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_a_target_of_an_earlier_layer_is_the_same_in_all_layouts(name: str):
    """After one of two layers; online, layers above it get no gradient from it."""
    check_all_layouts(name, EARLIER_LAYERS)


def check_all_layouts(name: str, settings: Sequence[Setting]) -> None:
    """Rows, both forms of packed, and flat against the plain computation."""
    check_layouts(name, torch.float32, tolerance=1e-4, settings=settings)
    model = tiny_model(name)
    for setting in settings:
        run = flat(model, setting)
        assert_agree(run.compute(), plain_computation(model, run.predictor, setting), tolerance=1e-4)


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3", "gpt2"])
def test_flat_layout_is_told_apart_by_position_ids_alone(name: str):
    """Under sdpa, for which transformers finds the sequences itself: where the ids begin anew."""
    model = tiny_model(name)
    for setting in (Setting("prefix"), Setting("alone", target="stop_gradient")):
        run = flat(model, setting, attention="sdpa")
        assert_agree(run.compute(), plain_computation(model, run.predictor, setting), tolerance=1e-4)


@pytest.mark.parametrize("name", ["mamba2", "bloom", "qwen3-next"])
def test_rows_equal_separate_forwards_where_packed_is_refused(name: str):
    """Recurrent, hybrid and ALiBi models; padding on the right leaves them alone."""
    model = tiny_model(name)
    for setting in (Setting("prefix"), Setting("alone", 2, "prepend", "stop_gradient"), Setting("prefix", 0)):
        run = in_rows(model, setting)
        assert_agree(run.compute(), plain_computation(model, run.predictor, setting), tolerance=1e-4)


@pytest.mark.parametrize("layout", [in_rows, packed, flat])
def test_gradient_stops_at_the_target(layout: Callable[..., Prepared]):
    """Online, a parameter gets a gradient from the target alone; with stop-gradient none."""
    model = tiny_model("llama")
    for view, direction in itertools.product(("alone", "prefix"), ("source_to_target", "target_to_source")):
        online = layout(model, Setting(view, target="online", direction=direction)).forward()
        assert online.target_ND.requires_grad
        stopped = layout(model, Setting(view, target="stop_gradient", direction=direction)).forward()
        assert not stopped.target_ND.requires_grad
        torch.testing.assert_close(stopped.target_ND, online.target_ND, atol=1e-5, rtol=0)


def test_model_that_uses_token_ids_in_every_layer_keeps_its_language_model():
    """Gemma 4 looks every token up once more per layer, which embeddings alone would not allow."""
    model = tiny_model("gemma4")
    expected = plain_lm_sum(model)
    for k in (0, 2):
        run = in_rows(model, Setting("prefix", k))
        computed = run.compute()
        assert computed.log_prob_sum.item() == pytest.approx(expected, abs=1e-3)
        assert (k == 0) == ("vectors" not in computed.gradients)


def plain_lm_sum(model: PreTrainedModel) -> float:
    """Sum of the labels' log-probabilities, by transformers' own loss."""
    total = 0.0
    for row in rows("prefix"):
        labels = on_device(torch.tensor([row["labels"]]))
        loss = model(input_ids=on_device(torch.tensor([row["input_ids"]])), labels=labels, use_cache=False).loss
        total -= loss.item() * (labels[:, 1:] != IGNORED).sum().item()
    return total


# --- the router of a mixture of experts


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("layout", [in_rows, packed, flat])
def test_router_loss_is_that_of_the_conversations_alone(name: str, layout: Callable[..., Prepared]):
    """As TRL's head gives it for the padded conversations, with its gradient; view tokens and padding are left out."""
    model = tiny_model(name)
    run = layout(model, Setting("prefix", target="online"))
    trl_model = copy.deepcopy(model)
    trl_utils.add_fused_lm_head(trl_model)
    inputs = {key: value for key, value in run.inputs().items() if key != "laid_out"}
    expected = trl_model(**inputs, fused_lm_head=True, output_router_logits=True)
    actual = run.forward(output_router_logits=True)
    torch.testing.assert_close(actual.aux_loss, expected.aux_loss, atol=1e-5, rtol=0)
    torch.testing.assert_close(actual.loss, expected.loss, atol=1e-4, rtol=0)
    actual_gradients = gradients_of(actual.aux_loss, run.model, None)
    expected_gradients = gradients_of(expected.aux_loss, trl_model, None)
    assert set(actual_gradients) == set(expected_gradients)
    for key, gradient in expected_gradients.items():
        torch.testing.assert_close(actual_gradients[key], gradient, atol=1e-4, rtol=1e-4)


def test_router_loss_is_left_out_unless_asked_for():
    """As in TRL."""
    assert packed(tiny_model("mixtral"), Setting()).forward().aux_loss is None
