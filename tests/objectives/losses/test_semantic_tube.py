"""Semantic Tube Prediction: the reference's numbers, values by hand, and a slow loop over tokens."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_jepa.config import JEPAConfig
from llm_jepa.objectives.draws import uniform_draws
from llm_jepa.objectives.losses import patch_loss, step_loss, tube_loss
from llm_jepa.objectives.losses.semantic_tube import content_positions
from llm_jepa.objectives.registry import CLASSES

CASES = json.loads((Path(__file__).parents[2] / "golden" / "stp.json").read_text())["cases"]


def row(*span) -> torch.Tensor:
    return torch.tensor([span])


def content(source, target) -> list[int]:
    return [*range(*source), *range(*target)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["patch"]))
def test_patch_loss_equals_the_reference(case):
    spans = [row(*case[name]) for name in ("source_span", "target_span", "patch")]
    loss_B = patch_loss(torch.tensor([case["hidden"]]), *spans)
    assert loss_B.item() == pytest.approx(case["loss"], abs=1e-5)


def test_patch_loss_of_all_cases_in_one_batch_equals_each_alone():
    hidden_BSD = torch.tensor([case["hidden"] for case in CASES])
    spans = [torch.tensor([case[name] for case in CASES]) for name in ("source_span", "target_span", "patch")]
    assert patch_loss(hidden_BSD, *spans).tolist() == pytest.approx([case["loss"] for case in CASES], abs=1e-5)


def slow_patch_loss(hidden_SD, source, target, patch):
    """The sum of the steps into each content token: the first of a view is reached from the token before it."""
    steps = [hidden_SD[i] - hidden_SD[i - 1] for i in content(source, target)]
    total, inside = sum(steps), sum(steps[patch[0] : patch[1]])
    return 1 - torch.cosine_similarity(total - inside, inside, dim=0)


@st.composite
def rows_with_spans(draw):
    source_start = draw(st.integers(1, 4))
    source_end = source_start + draw(st.integers(0, 5))
    target_start = source_end + draw(st.integers(0, 3))
    target_end = target_start + draw(st.integers(0, 5))
    tokens = (source_end - source_start) + (target_end - target_start)
    if tokens < 3:
        target_end, tokens = target_end + 3, tokens + 3
    hidden_SD = torch.randn(
        target_end + draw(st.integers(0, 3)), 6, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))
    ).double()
    return hidden_SD, (source_start, source_end), (target_start, target_end), tokens


@settings(deadline=None)
@given(rows_with_spans(), st.data())
def test_patch_loss_is_the_sum_of_steps_over_content_tokens(case, data):
    hidden_SD, source, target, tokens = case
    start = data.draw(st.integers(0, tokens - 1))
    end = data.draw(st.integers(start + 1, tokens if start else tokens - 1))
    actual = patch_loss(hidden_SD[None], row(*source), row(*target), row(start, end))
    assert actual.item() == pytest.approx(slow_patch_loss(hidden_SD, source, target, (start, end)).item(), abs=1e-9)


@settings(deadline=None)
@given(rows_with_spans(), st.data())
def test_tube_loss_is_the_angle_at_the_middle_token(case, data):
    hidden_SD, source, target, tokens = case
    s, r, t = sorted(data.draw(st.lists(st.integers(0, tokens - 1), min_size=3, max_size=3, unique=True)))
    at = [hidden_SD[content(source, target)[i]] for i in (s, r, t)]
    expected = 1 - torch.cosine_similarity(at[2] - at[1], at[1] - at[0], dim=0)
    actual = tube_loss(hidden_SD[None], row(*source), row(*target), row(s, r, t))
    assert actual.item() == pytest.approx(expected.item(), abs=1e-9)


def test_tube_loss_by_hand():
    """Straight on 0, a right angle 1, back again 2."""
    paths = [[[0, 0], [1, 0], [3, 0]], [[0, 0], [1, 0], [1, 5]], [[0, 0], [2, 0], [1, 0]]]
    hidden_BSD = torch.tensor(paths, dtype=torch.float32)
    spans = torch.tensor([[0, 3]] * 3), torch.tensor([[3, 3]] * 3)
    assert tube_loss(hidden_BSD, *spans, torch.tensor([[0, 1, 2]] * 3)).tolist() == pytest.approx([0, 1, 2], abs=1e-6)


def test_step_loss_by_hand():
    """A right angle, then back: 1 and 2. Padding and the positions between the ends count nothing."""
    path_SD = torch.tensor([[0, 0], [9, 9], [1, 0], [1, 2], [1, 1]], dtype=torch.float32)
    ends_NC = torch.tensor([[0, 2, 3, 4], [0, 2, 3, -1], [0, 2, -1, -1], [3, -1, -1, -1], [-1, -1, -1, -1]])
    hidden_NSD = path_SD.expand(5, -1, -1).clone().requires_grad_()
    loss_N = step_loss(hidden_NSD, ends_NC)
    assert loss_N.tolist() == pytest.approx([1.5, 1, 0, 0, 0], abs=1e-6)
    loss_N.sum().backward()
    assert hidden_NSD.grad.isfinite().all()
    assert not hidden_NSD.grad[2:].any(), "a row with fewer than three ends has no gradient"


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), unique=True).map(sorted), min_size=1, max_size=4), st.integers(0, 99))
def test_step_loss_is_the_mean_of_the_tubes_of_consecutive_ends(rows, seed):
    """A slow loop over the triples, each by `tube_loss`."""
    hidden_NSD = torch.randn(len(rows), 10, 6, generator=torch.Generator().manual_seed(seed)).double()
    width = max(map(len, rows))
    loss_N = step_loss(
        hidden_NSD, torch.tensor([ends + [-1] * (width - len(ends)) for ends in rows], dtype=torch.long)
    )
    whole, empty = row(0, 10), row(10, 10)
    for actual, hidden_SD, ends in zip(loss_N, hidden_NSD, rows, strict=True):
        triples = zip(ends, ends[1:], ends[2:], strict=False)
        tubes = [tube_loss(hidden_SD[None], whole, empty, row(*triple)).item() for triple in triples]
        assert actual.item() == pytest.approx(sum(tubes) / max(1, len(tubes)), abs=1e-9)


def test_content_is_numbered_over_source_then_target():
    positions = content_positions(row(3, 7), row(9, 14), row(0, 3, 4, 8))
    assert positions.tolist() == [[3, 6, 9, 13]]


def test_half_precision_hidden_states_are_computed_in_float32():
    case = CASES[0]
    hidden_BSD = torch.tensor([case["hidden"]]).bfloat16()
    spans = [row(*case[name]) for name in ("source_span", "target_span", "patch")]
    assert patch_loss(hidden_BSD, *spans).dtype == torch.float32
    assert torch.equal(patch_loss(hidden_BSD, *spans), patch_loss(hidden_BSD.float(), *spans))


def span_loss(kind, sampler, hidden_BSD, draw_NC, source_span_N2, target_span_N2):
    objective = CLASSES[kind](JEPAConfig("unused", jepa_objective=kind, span_sampler=sampler, report_to="none"))
    return objective.span_loss(hidden_BSD, draw_NC, source_span_N2, target_span_N2)


@pytest.mark.parametrize("kind", ["tube", "patch"])
def test_a_batch_of_texts_of_one_token_has_no_loss(kind):
    """An empty text is its end token alone, and its span begins after it."""
    hidden_BSD = torch.ones(2, 1, 4, requires_grad=True)
    span_B2 = torch.tensor([[1, 1], [1, 1]])
    loss_N = span_loss(kind, "uniform", hidden_BSD, uniform_draws(0, 0, torch.arange(2), 3), span_B2, span_B2)
    loss_N.sum().backward()
    assert loss_N.tolist() == [0, 0]
    assert (hidden_BSD.grad == 0).all()


@pytest.mark.parametrize(("kind", "sampler"), [("tube", "ends"), ("tube", "uniform"), ("patch", "start_first")])
def test_rows_with_too_little_content_have_no_loss_and_no_gradient(kind, sampler):
    """Rows of 0, 1 and 5 content tokens: the first two count nothing, and nothing becomes NaN."""
    hidden_BSD = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    source, target = torch.tensor([[1, 1], [1, 2], [1, 4]]), torch.tensor([[1, 1], [2, 2], [5, 7]])
    draw_NC = uniform_draws(0, 0, torch.arange(3), 3)
    loss_N = span_loss(kind, sampler, hidden_BSD, draw_NC, source, target)
    loss_N.sum().backward()
    assert loss_N[:2].tolist() == [0, 0]
    assert loss_N[2].item() > 0.01
    assert (hidden_BSD.grad[:2] == 0).all()
    assert (hidden_BSD.grad[2] != 0).any()
    assert torch.isfinite(hidden_BSD.grad).all()
