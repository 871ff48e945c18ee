"""Multi-token prediction: values by hand, and a slow loop over heads, rows and positions with all logits."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from llm_jepa.objectives.losses import LMHead, multi_token_rows
from tests.objectives.losses.heads import HEADS, new_head, normal, plain_logits


def slow_multi_token(head_hidden: list[Tensor], labels_NS: Tensor, head: LMHead) -> Tensor:
    rows = []
    for n, labels in enumerate(labels_NS.tolist()):
        means = []
        for k, hidden_NSD in enumerate(head_hidden):
            losses = [
                F.cross_entropy(plain_logits(hidden_NSD[n, t], head), torch.tensor(labels[t + 2 + k]))
                for t in range(len(labels) - 2 - k)
                if labels[t + 2 + k] != -100
            ]
            means += [torch.stack(losses).mean()] if losses else []
        rows.append(torch.stack(means).mean() if means else 0 * head_hidden[0].sum())
    return torch.stack(rows)


def labelled(labels_NS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and positions whose next token has a label, and that label."""
    row_M, token_M = (labels_NS != -100)[:, 1:].nonzero(as_tuple=True)
    return row_M, token_M, labels_NS[row_M, token_M + 1]


def test_head_k_predicts_the_token_two_plus_k_ahead():
    """Of five tokens 0 .. 4, a head that points at the right one costs nothing, at the one before it 100."""
    labels_NS = torch.arange(5)[None]
    head = LMHead(100 * torch.eye(5))
    right = [torch.eye(5).roll(-2 - k, dims=0)[None] for k in range(3)]
    torch.testing.assert_close(multi_token_rows(right, *labelled(labels_NS), head), torch.zeros(1))
    early = [torch.eye(5).roll(-1 - k, dims=0)[None] for k in range(3)]
    torch.testing.assert_close(multi_token_rows(early, *labelled(labels_NS), head), torch.full((1,), 100.0))


def test_the_mean_of_a_row_by_hand():
    """Head 0 has two labelled positions, costs log 2 and log 2 + 3; head 1 has one, costs log 2; head 2 has none."""
    labels_NS = torch.tensor([[-100, -100, 0, 1]])
    head = LMHead(torch.eye(2))
    flat, wrong = [0.0, 0.0], [1000.0, 1000 - math.log(math.exp(3) * 2 - 1)]
    head_hidden = [torch.tensor([[flat, wrong, flat, flat]]), torch.tensor([[flat] * 4]), torch.tensor([[flat] * 4])]
    expected = ((math.log(2) + math.log(2) + 3) / 2 + math.log(2)) / 2
    assert multi_token_rows(head_hidden, *labelled(labels_NS), head).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", HEADS)
@given(data=st.data(), seed=st.integers(0, 99))
def test_rows_equal_a_slow_loop_in_value_and_gradients(kind: str, data, seed: int):
    """Labels anywhere; the gradients reach every head's hidden states, the weight and the bias."""
    rows, positions, heads = (data.draw(st.integers(1, most)) for most in (3, 6, 3))
    label = st.sampled_from([-100, 0, 3, 10])
    labels = data.draw(st.lists(label, min_size=rows * positions, max_size=rows * positions))
    labels_NS = torch.tensor(labels).view(rows, positions)
    hidden = [normal(seed + k, rows, positions, 4, dtype=torch.float32).requires_grad_() for k in range(heads)]
    head = new_head(kind, dtype=torch.float32)
    trained = [one.requires_grad_() for one in (head.weight_VD, head.bias_V) if one is not None]
    values = []
    for loss_N in (
        multi_token_rows(hidden, *labelled(labels_NS), head),
        slow_multi_token(hidden, labels_NS, head),
    ):
        weighted = (loss_N * torch.arange(1, rows + 1)).sum()
        grads = torch.autograd.grad(weighted, hidden + trained, allow_unused=True, materialize_grads=True)
        values.append((loss_N, *grads))
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-5)


def test_half_precision_gives_a_float32_loss():
    labels_NS, head = torch.randint(0, 11, (2, 6)), new_head("plain", dtype=torch.bfloat16)
    hidden = [normal(k, 2, 6, 4, dtype=torch.bfloat16) for k in range(2)]
    loss_N = multi_token_rows(hidden, *labelled(labels_NS), head)
    assert loss_N.dtype == torch.float32
    exact_N = multi_token_rows([one.float() for one in hidden], *labelled(labels_NS), LMHead(head.weight_VD.float()))
    torch.testing.assert_close(loss_N, exact_N, rtol=0.02, atol=0.02)


def test_no_shape_depends_on_a_value():
    """So that a plan can count a step without data."""
    labels, head = labelled(torch.randint(0, 11, (2, 6))), new_head("all", dtype=torch.float32)
    hidden = [normal(k, 2, 6, 4, dtype=torch.float32).requires_grad_() for k in range(2)]
    with FakeTensorMode() as mode:
        fake_head = LMHead(mode.from_tensor(head.weight_VD), mode.from_tensor(head.bias_V), *head[2:])
        loss_N = multi_token_rows(list(map(mode.from_tensor, hidden)), *map(mode.from_tensor, labels), fake_head)
        loss_N.sum().backward()
    assert loss_N.shape == (2,)
