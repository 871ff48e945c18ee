"""The losses of `answer_code`: values by hand, slow loops, what gets no gradient."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.objectives.losses import LMHead, code_regression_rows, reconstruction_rows
from tests.objectives.losses.heads import is_token, new_head, normal, plain_logits


def test_code_regression_by_hand():
    """Two codes of two numbers: (1 + 0 + 4 + 9) / 4; a row of its own."""
    predicted_NKC = torch.tensor([[[1.0, 0.0], [2.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]]])
    code_NKC = torch.stack([torch.zeros(2, 2), torch.ones(2, 2)])
    assert code_regression_rows(predicted_NKC, code_NKC).tolist() == [3.5, 0.0]


def test_code_regression_moves_the_prediction_alone():
    predicted_NKC, code_NKC = normal(0, 3, 2, 4).requires_grad_(), normal(1, 3, 2, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda one: code_regression_rows(one, code_NKC), predicted_NKC)
    code_regression_rows(predicted_NKC, code_NKC).sum().backward()
    assert code_NKC.grad is None


def test_code_regression_of_half_precision_is_computed_in_float32():
    predicted_NKC, code_NKC = normal(0, 3, 2, 32).bfloat16(), normal(1, 3, 2, 32)
    assert torch.equal(
        code_regression_rows(predicted_NKC, code_NKC.float()),
        code_regression_rows(predicted_NKC.float(), code_NKC.float()),
    )


def test_code_regression_names_both_shapes():
    """No silent broadcast of one code over all."""
    with pytest.raises(ValueError, match=r"\(2, 4, 32\) and the codes \(2, 1, 32\)"):
        code_regression_rows(torch.zeros(2, 4, 32), torch.zeros(2, 1, 32))


def test_reconstruction_by_hand():
    """A state without preference among four tokens costs log 4, one that points at its token 0; padding counts not."""
    head = LMHead(100 * torch.eye(4))
    decoded_NTE = torch.stack([torch.zeros(4), torch.eye(4)[2], torch.eye(4)[3]])[None]
    loss_N = reconstruction_rows(decoded_NTE, torch.tensor([[1, 2, 0]]), torch.tensor([[True, True, False]]), head)
    assert loss_N.item() == pytest.approx(math.log(4) / 2)


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any), seed=st.integers(0, 99))
def test_reconstruction_equals_a_slow_loop_in_value_and_gradient(lengths: list[int], seed: int):
    """A row without tokens has the loss 0."""
    is_token_NT = is_token(lengths)
    token_NT = torch.randint(0, 11, is_token_NT.shape, generator=torch.Generator().manual_seed(seed))
    decoded_NTE = normal(seed, *is_token_NT.shape, 4, dtype=torch.float32).requires_grad_()
    head = new_head("plain", dtype=torch.float32)
    trained = [decoded_NTE, head.weight_VD.requires_grad_()]

    def slow_row(n: int):
        losses = [F.cross_entropy(plain_logits(decoded_NTE[n, t], head), token_NT[n, t]) for t in range(lengths[n])]
        return torch.stack(losses).mean() if losses else 0 * decoded_NTE.sum()

    values = []
    for loss_N in (
        reconstruction_rows(decoded_NTE, token_NT, is_token_NT, head),
        torch.stack([slow_row(n) for n in range(len(lengths))]),
    ):
        weighted = (loss_N * torch.arange(1, len(lengths) + 1)).sum()
        values.append((loss_N, *torch.autograd.grad(weighted, trained)))
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-5)
