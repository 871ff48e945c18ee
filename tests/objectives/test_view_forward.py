"""The one forward over views: what it computes, and what it leaves as it was. Its values: test_equivalence.py."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from trl.trainer import utils as trl_utils

from llm_jepa.layouts import PackedLayout
from llm_jepa.layouts.masks import MaskForm
from tests.architectures import VOCABULARY_TOKENS, tiny_model
from tests.view_models import PAD, Prepared, Setting, flat, gradients_of, in_rows, packed, rows, taught

# --- what is computed


@dataclass
class Counts:
    """Shapes that reach the first layer, whether with gradient, and the rows that the head scores, call by call."""

    backbone: list[tuple[int, int]]
    with_gradient: list[bool]
    head: list[int]


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[Prepared], Counts]:
    """Runs a forward and counts."""

    def run(prepared_model: Prepared) -> Counts:
        counts = Counts([], [], [])
        real_head = trl_utils._ChunkedLogProbFunction

        class CountingHead:
            @staticmethod
            def apply(hidden_ND: Tensor, *args):
                counts.head.append(len(hidden_ND))
                return real_head.apply(hidden_ND, *args)

        def count_tokens(layer: nn.Module, args: tuple, kwargs: dict):
            hidden_RLD = args[0] if args else kwargs["hidden_states"]
            counts.backbone.append(tuple(hidden_RLD.shape[:2]))
            counts.with_gradient.append(torch.is_grad_enabled())

        monkeypatch.setattr(trl_utils, "_ChunkedLogProbFunction", CountingHead)
        first_layer = prepared_model.model.base_model.layers[0]
        handle = first_layer.register_forward_pre_hook(count_tokens, with_kwargs=True)
        prepared_model.forward()
        handle.remove()
        return counts

    return run


# Of the first, longer row: conversation 1 + 3 + 9 + 1 + 8 + 1, source prefix 13, source alone 2 + 9, target 2 + 8.
CONVERSATION, SOURCE_ALONE, TARGET = 23, 11, 10
LABELS = 8 + 1 + 4 + 1


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        # Every other sequence shares the first token with the conversation.
        (Setting("alone"), [(2, CONVERSATION + SOURCE_ALONE - 1 + 2 + TARGET - 1)]),
        (Setting("prefix"), [(2, CONVERSATION + 2 + TARGET - 1)]),
        (Setting("prefix", 0), [(2, CONVERSATION + TARGET - 1)]),
        (Setting("prefix", 0, target="stop_gradient"), [(2, CONVERSATION), (2, TARGET)]),
        (Setting("prefix", target="stop_gradient"), [(2, CONVERSATION + 2), (2, TARGET)]),
        (Setting("alone", target="stop_gradient"), [(2, CONVERSATION + SOURCE_ALONE - 1 + 2), (2, TARGET)]),
        # A target that is the conversation's own prefix costs nothing, with gradient or without.
        (
            Setting("prefix", target="stop_gradient", direction="target_to_source"),
            [(2, CONVERSATION + TARGET - 1 + 2)],
        ),
    ],
    ids=str,
)
def test_tokens_that_reach_the_model_packed(
    setting: Setting, expected: list[tuple[int, int]], count: Callable[[Prepared], Counts]
):
    """One forward, and one for a target without gradient; the head scores the labels alone."""
    counts = count(packed(tiny_model("llama"), setting))
    assert counts.backbone == expected
    assert counts.with_gradient == [True, False][: len(expected)]
    assert counts.head == [LABELS]


def test_tokens_that_reach_the_model_in_rows(count: Callable[[Prepared], Counts]):
    """Three rows for each of two examples, as long as the longest; the head scores the labels alone."""
    counts = count(in_rows(tiny_model("llama"), Setting("prefix")))
    assert counts.backbone == [(6, CONVERSATION)]
    assert counts.head == [LABELS]


# Both rows: conversations 23 + 17, source prefixes 13 + 11, targets 10 + 6.
@pytest.mark.parametrize(
    ("target", "expected"),
    [("online", [(1, 40 + 24 + 2 * 2 + 16)]), ("stop_gradient", [(1, 40 + 24 + 2 * 2), (1, 16)])],
)
def test_tokens_that_reach_the_model_flat(
    target: str, expected: list[tuple[int, int]], count: Callable[[Prepared], Counts]
):
    """Every sequence in full, none with padding, in the no-grad forward either."""
    counts = count(flat(tiny_model("llama"), Setting("prefix", target=target)))
    assert counts.backbone == expected
    assert counts.with_gradient == [True, False][: len(expected)]
    assert counts.head == [LABELS]


def test_batch_counts_its_tokens_without_padding():
    """The second row is shorter: conversation 1 + 3 + 7 + 1 + 4 + 1, target 2 + 4."""
    laid_out = packed(tiny_model("llama"), Setting("prefix")).inputs()["laid_out"]
    assert laid_out.batch.num_tokens == (CONVERSATION + 2 + TARGET - 1) + (17 + 2 + 6 - 1)


# --- what is left as it was


def test_other_calls_are_those_of_the_plain_model():
    """Logits, TRL's own head and generation, before and after a batch with views."""
    model = tiny_model("llama")
    run = packed(model, Setting())
    ids = torch.tensor([rows("alone")[0]["input_ids"]])
    labels = torch.tensor([rows("alone")[0]["labels"]])
    expected_logits = model(ids).logits
    expected_text = model.generate(ids, max_new_tokens=5, do_sample=False)
    for _ in range(2):
        assert torch.equal(run.model(ids).logits, expected_logits)
        assert torch.equal(run.model.generate(ids, max_new_tokens=5, do_sample=False), expected_text)
        fused = run.model(input_ids=ids, labels=labels, fused_lm_head=True)
        assert fused.loss.item() == pytest.approx(model(ids, labels=labels).loss.item(), abs=1e-5)
        run.forward()


def test_forward_that_fails_leaves_no_batch_behind():
    """The next call must not be given the failed one's tokens."""
    model = tiny_model("llama")
    run = packed(model, Setting())
    inputs = run.inputs()
    batch = inputs["laid_out"].batch
    batch = replace(batch, input_ids_RL=batch.input_ids_RL + VOCABULARY_TOKENS)
    inputs["laid_out"] = replace(inputs["laid_out"], batch=batch)
    with pytest.raises(IndexError):
        run.model(**inputs, fused_lm_head=True)
    ids = torch.tensor([[1, 5, 9]])
    assert torch.equal(run.model(ids).logits, model(ids).logits)


@pytest.mark.parametrize("layout", [in_rows, packed])
def test_batch_without_a_label_has_a_differentiable_loss_of_zero(layout: Callable[..., Prepared]):
    """The JEPA term still trains; the language model's share is 0, not NaN."""
    run = layout(tiny_model("llama"), Setting())
    inputs = run.inputs()
    none = torch.empty(0, dtype=torch.long)
    batch = replace(inputs["laid_out"].batch, label_positions_M=none, label_ids_M=none)
    inputs["laid_out"] = replace(inputs["laid_out"], batch=batch)
    output = run.model(**inputs, fused_lm_head=True)
    assert output.loss.item() == 0
    gradients = gradients_of(output.loss + output.prediction_ND.sum(), run.model, run.predictor)
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    assert gradients["vectors"].abs().max() > 0


def test_gradient_reaches_every_predictor_vector():
    """Each of three vectors, appended, trains through the readout of the last."""
    run = packed(tiny_model("llama"), Setting("prefix", 3))
    gradient_KD = gradients_of(run.forward().prediction_ND.sum(), run.model, run.predictor)["vectors"]
    assert (gradient_KD.norm(dim=1) > 1e-3).all()


@pytest.mark.parametrize("layout", [in_rows, packed])
def test_mean_loss_is_per_label(layout: Callable[..., Prepared]):
    """`loss` is the mean over the labels of the batch, and `log_probs` holds one number for each."""
    output = layout(tiny_model("llama"), Setting()).forward()
    assert output.log_probs.numel() == LABELS
    assert output.loss.item() == pytest.approx(-output.log_probs.sum().item() / LABELS, rel=1e-6)


# --- under what a trainer puts around it


@pytest.mark.parametrize("layout", [in_rows, packed])
def test_autocast_keeps_the_gradient_of_every_weight(layout: Callable[..., Prepared]):
    """No weight that autocast has cast for the target's no-grad forward serves the pass that needs a gradient."""
    model, setting = tiny_model("llama"), Setting("prefix", target="stop_gradient")
    expected = layout(model, setting).compute().gradients
    with torch.autocast("cpu", torch.bfloat16):
        actual = layout(model, setting).compute().gradients
    assert actual.keys() == expected.keys()
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    assert max((actual[name] - expected[name]).abs().max().item() for name in actual) < 0.1 * largest


def gradients_by_backward(run: Prepared) -> dict[str, Tensor]:
    """Of every parameter, in training mode."""
    run.model.train()
    output = run.forward()
    total = output.log_probs.sum() + output.prediction_ND.sum()
    (total + output.target_ND.square().sum() if output.target_ND.requires_grad else total).backward()
    return {name: parameter.grad for name, parameter in run.model.named_parameters()} | {
        "vectors": run.predictor.vectors_KD.grad
    }


@pytest.mark.parametrize("name", ["llama", "gemma3"])
@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize(
    "setting",
    [Setting("prefix", target="stop_gradient"), Setting("prefix", target_layer=0.5)],
    ids=["detached", "online, earlier layer"],
)
def test_gradient_checkpointing_changes_nothing(name: str, setting: Setting, use_reentrant: bool):
    """Layers are run again in the backward, when the batch is no longer at hand; TRL turns this on by default."""
    model = tiny_model(name)
    expected = gradients_by_backward(packed(model, setting))
    run = packed(model, setting)
    run.model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    torch.testing.assert_close(gradients_by_backward(run), expected)


@pytest.mark.parametrize(
    "adapter",
    [
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    ],
    ids=["linear", "embedding", "saved embedding"],
)
def test_fresh_adapter_leaves_the_values_alone(adapter: dict):
    """LoRA starts at zero. Whatever wraps the embedding layer, the vectors enter behind it and get a gradient."""
    model, setting = tiny_model("llama"), Setting("prefix")
    expected = packed(model, setting).forward()
    trl_utils.add_fused_lm_head(model)
    peft_model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **adapter))
    run = taught(peft_model.get_base_model(), PackedLayout(PAD), MaskForm("plain"), setting)
    output = peft_model(**run.inputs(), fused_lm_head=True)
    torch.testing.assert_close(output.prediction_ND, expected.prediction_ND)
    torch.testing.assert_close(output.log_probs, expected.log_probs)
    output.prediction_ND.sum().backward()
    assert (run.predictor.vectors_KD.grad.norm(dim=1) > 1e-3).all()
