"""Next-latent prediction: values by hand, slow loops over positions, the plain formula with all logits at once."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from llm_jepa.objectives.losses import LMHead, kl_rows, roll_out, smooth_l1_rows
from llm_jepa.objectives.losses.next_latent import latent_kl
from tests.objectives.losses.heads import HEADS, is_token, new_head, normal, plain_logits


def plain_kl(predicted: Tensor, target: Tensor, head: LMHead) -> Tensor:
    """Of one position, or of many: both (..., D)."""
    log_predicted, log_target = (plain_logits(hidden, head).log_softmax(-1) for hidden in (predicted, target))
    log_target = log_target.expand_as(log_predicted)
    return F.kl_div(log_predicted, log_target, reduction="none", log_target=True).sum(-1)


@st.composite
def padded_rows(draw):
    """Lengths of rows, the longest whole, and a number of steps."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    return lengths, draw(st.integers(1, 4)), draw(st.integers(0, 99))


def places(is_labelled_NS: Tensor) -> tuple[Tensor, Tensor]:
    """label_row_M and label_position_M."""
    return is_labelled_NS.nonzero(as_tuple=True)


def nonlinear(hidden: Tensor, embedding: Tensor) -> Tensor:
    """A dynamics whose two arguments cannot be confused."""
    return torch.tanh(hidden) + hidden.roll(1, dims=-1) * embedding


# --- rolling out


def test_roll_out_by_hand():
    """g(h, x) = 10 h + x over the states 1, 2, 3 and the embeddings 7, 8, 9."""
    hidden_NSD = torch.tensor([[[1.0], [2.0], [3.0]]])
    embedding_NSD = torch.tensor([[[7.0], [8.0], [9.0]]])
    first, second = roll_out(lambda hidden, embedding: 10 * hidden + embedding, hidden_NSD, embedding_NSD, 2)
    assert first.flatten().tolist() == [18.0, 29.0]
    assert second.flatten().tolist() == [189.0]


@given(rows=padded_rows())
def test_roll_out_equals_a_recursion_from_each_position(rows):
    lengths, steps, seed = rows
    hidden_NSD, embedding_NSD = (
        normal(seed, len(lengths), max(lengths), 3),
        normal(seed + 1, len(lengths), max(lengths), 3),
    )
    predicted = roll_out(nonlinear, hidden_NSD, embedding_NSD, steps)
    assert [one.shape[1] for one in predicted] == [max(max(lengths) - step, 0) for step in range(1, steps + 1)]
    for n in range(len(lengths)):
        for t in range(max(lengths)):
            state = hidden_NSD[n, t]
            for step in range(1, min(steps, max(lengths) - 1 - t) + 1):
                state = nonlinear(state, embedding_NSD[n, t + step])
                torch.testing.assert_close(predicted[step - 1][n, t], state)


# --- SmoothL1


def test_smooth_l1_by_hand():
    """Differences 1/2 and 3 give 1/8 and 5/2, equal states give 0: (1/8 + 5/2) / 4 for step 1, 1/8 for step 2."""
    target_NSD = torch.tensor([[[9.0, 9.0], [0.0, 0.0], [0.0, 0.0]]])
    predicted = [torch.tensor([[[0.5, 3.0], [0.0, 0.0]]]), torch.tensor([[[0.5, 0.5]]])]
    loss_N = smooth_l1_rows(predicted, target_NSD, torch.ones(1, 3, dtype=torch.bool))
    assert loss_N.item() == pytest.approx(((1 / 8 + 5 / 2) / 4 + 1 / 8) / 2)


def slow_mean(term, predicted: list[Tensor], target_NSD: Tensor, is_chosen_NS: Tensor) -> Tensor:
    """Row by row, step by step, position by position."""
    rows = []
    for n in range(len(target_NSD)):
        means = []
        for step, predicted_NTD in enumerate(predicted, start=1):
            terms = [
                term(predicted_NTD[n, t], target_NSD[n, t + step].detach())
                for t in range(predicted_NTD.shape[1])
                if is_chosen_NS[n, t + step]
            ]
            means += [torch.stack(terms).mean()] if terms else []
        rows.append(torch.stack(means).mean() if means else 0 * target_NSD.sum())
    return torch.stack(rows)


def slow_smooth_l1(predicted_D: Tensor, target_D: Tensor) -> Tensor:
    distance_D = (predicted_D - target_D).abs()
    return torch.where(distance_D < 1, distance_D.square() / 2, distance_D - 0.5).mean()


@given(rows=padded_rows())
def test_smooth_l1_rows_equal_a_slow_loop_in_value_and_gradient(rows):
    lengths, steps, seed = rows
    hidden_NSD = normal(seed, len(lengths), max(lengths), 3).requires_grad_()
    embedding_NSD = normal(seed + 1, len(lengths), max(lengths), 3)
    grads = []
    for mean in (smooth_l1_rows, lambda *inputs: slow_mean(slow_smooth_l1, *inputs)):
        predicted = roll_out(nonlinear, hidden_NSD, embedding_NSD, steps)
        loss_N = mean(predicted, hidden_NSD, is_token(lengths))
        weighted = (loss_N * torch.arange(1, len(lengths) + 1)).sum()
        grads.append((loss_N, *torch.autograd.grad(weighted, hidden_NSD)))
    torch.testing.assert_close(*grads)


def test_smooth_l1_gradients_are_those_of_finite_differences():
    target_NSD, is_token_NS = normal(0, 2, 4, 3), is_token([4, 2])
    predicted = [normal(step, 2, 4 - step, 3).requires_grad_() for step in (1, 2)]
    assert torch.autograd.gradcheck(lambda *steps: smooth_l1_rows(steps, target_NSD, is_token_NS), predicted)


@pytest.mark.parametrize("tokens", [1, 3])
def test_a_row_of_one_token_has_the_loss_zero_and_the_gradient_zero(tokens: int):
    """Alone, so that nothing is predicted at all, and beside a longer row; what is in its padding does not matter."""
    hidden_NSD = normal(0, 2, tokens, 3)
    hidden_NSD[0, 1:] = torch.nan
    hidden_NSD.requires_grad_()
    is_token_NS = is_token([1, tokens])
    predicted = roll_out(torch.add, hidden_NSD, torch.ones(2, tokens, 3), 2)
    smooth_N, kl_N = (
        smooth_l1_rows(predicted, hidden_NSD, is_token_NS),
        kl_rows(predicted, hidden_NSD, *places(is_token_NS), new_head("plain", width=3)),
    )
    assert smooth_N[0] == kl_N[0] == 0
    (smooth_N.sum() + kl_N.sum()).backward()
    assert (hidden_NSD.grad[0] == 0).all()
    assert torch.isfinite(hidden_NSD.grad).all()


def test_half_precision_is_computed_in_float32():
    hidden_NSD, predicted = normal(0, 1, 5, 64).bfloat16(), [normal(1, 1, 4, 64).bfloat16()]
    loss_N = smooth_l1_rows(predicted, hidden_NSD, is_token([5]))
    assert torch.equal(loss_N, smooth_l1_rows([predicted[0].float()], hidden_NSD.float(), is_token([5])))


# --- the KL


def test_kl_by_hand():
    """Target (3/4, 1/4), prediction (1/2, 1/2): the KL is 3/4 log 3/2 + 1/4 log 1/2, its gradient (-1/4, 1/4)."""
    predicted_IMD = torch.zeros(1, 1, 2, requires_grad=True)
    kl_IM = latent_kl(predicted_IMD, torch.tensor([[math.log(3), 0.0]]), LMHead(torch.eye(2)))
    kl_IM.sum().backward()
    assert kl_IM.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    torch.testing.assert_close(predicted_IMD.grad, torch.tensor([[[-0.25, 0.25]]]))


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk_tokens", [1, 3, 7, 100])
def test_kl_equals_the_plain_formula_in_value_and_gradient(kind: str, dtype: torch.dtype, chunk_tokens: int):
    head = new_head(kind, dtype=dtype)
    predicted_IMD, target_MD = normal(2, 2, 7, 4, dtype=dtype).requires_grad_(), normal(3, 7, 4, dtype=dtype)
    weight_IM = normal(4, 2, 7, dtype=dtype)
    values = []
    for kl_IM in (latent_kl(predicted_IMD, target_MD, head, chunk_tokens), plain_kl(predicted_IMD, target_MD, head)):
        values.append((kl_IM, *torch.autograd.grad((weight_IM * kl_IM).sum(), predicted_IMD)))
    torch.testing.assert_close(*values)
    assert values[0][0].dtype == dtype


@pytest.mark.parametrize("kind", HEADS)
def test_kl_gradients_are_those_of_finite_differences(kind: str):
    predicted_IMD, target_MD = normal(2, 2, 5, 4).requires_grad_(), normal(3, 5, 4)
    assert torch.autograd.gradcheck(lambda h: latent_kl(h, target_MD, new_head(kind), chunk_tokens=2), predicted_IMD)


@pytest.mark.parametrize("kind", HEADS)
def test_equal_hidden_states_have_the_kl_zero_and_the_gradient_zero(kind: str):
    target_MD = normal(2, 5, 4, dtype=torch.float32)
    predicted_IMD = target_MD.repeat(2, 1, 1).requires_grad_()
    kl_IM = latent_kl(predicted_IMD, target_MD, new_head(kind, dtype=torch.float32))
    kl_IM.sum().backward()
    assert (kl_IM == 0).all()
    assert (predicted_IMD.grad == 0).all()


def test_no_gradient_reaches_the_target_or_the_head():
    head = LMHead(*(normal(seed, *shape).requires_grad_() for seed, shape in ((0, (11, 4)), (1, (11,)))))
    predicted_IMD, target_MD = normal(2, 2, 5, 4).requires_grad_(), normal(3, 5, 4).requires_grad_()
    latent_kl(predicted_IMD, target_MD, head).sum().backward()
    assert target_MD.grad is head.weight_VD.grad is head.bias_V.grad is None
    assert predicted_IMD.grad.abs().sum() > 0


def test_the_backward_needs_no_weight():
    """ZeRO-3 has divided it again: its storage is empty by then."""
    weight_VD, predicted_IMD, target_MD = normal(0, 11, 4), normal(2, 2, 5, 4).requires_grad_(), normal(3, 5, 4)
    (expected,) = torch.autograd.grad(latent_kl(predicted_IMD, target_MD, LMHead(weight_VD)).sum(), predicted_IMD)
    kl_IM = latent_kl(predicted_IMD, target_MD, LMHead(weight_VD))
    weight_VD.untyped_storage().resize_(0)
    kl_IM.sum().backward()
    assert torch.equal(predicted_IMD.grad, expected)


class Watch(TorchDispatchMode):
    """Counts the products, and the elements of the largest tensor that an operation makes."""

    def __init__(self):
        super().__init__()
        self.largest = self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.products += func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        made = [] if func.is_view else out if isinstance(out, tuple | list) else [out]
        self.largest = max([self.largest, *(one.numel() for one in made if isinstance(one, Tensor))])
        return out


@pytest.mark.parametrize("kind", HEADS)
def test_no_tensor_is_larger_than_the_logits_of_a_chunk(kind: str):
    """Of 40 positions, 2 steps and 1,000 tokens, in chunks of 8, forward and backward."""
    head = new_head(kind, vocabulary=1000)
    predicted_IMD, target_MD = normal(2, 2, 40, 4).requires_grad_(), normal(3, 40, 4)
    with Watch() as chunked:
        latent_kl(predicted_IMD, target_MD, head, chunk_tokens=8).sum().backward()
    with Watch() as plain:
        plain_kl(predicted_IMD, target_MD, head).sum().backward()
    assert chunked.largest == 8 * 1000
    assert plain.largest == 2 * 40 * 1000


def test_an_evaluation_computes_no_gradient():
    """A product for the targets of a chunk and one for each step; two for each step in training."""
    predicted_IMD, target_MD = normal(2, 2, 6, 4).requires_grad_(), normal(3, 6, 4)
    with Watch() as training:
        latent_kl(predicted_IMD, target_MD, new_head("plain"), chunk_tokens=3)
    with torch.no_grad(), Watch() as evaluation:
        latent_kl(predicted_IMD, target_MD, new_head("plain"), chunk_tokens=3)
    assert (training.products, evaluation.products) == (2 * 5, 2 * 3)


@pytest.mark.parametrize("kind", HEADS)
def test_autocast_computes_the_products_in_its_type_and_the_rest_in_float32(kind: str):
    """As float32 hidden states and weights rounded to bfloat16 do; the gradient has the type of the hidden states."""
    head = new_head(kind, vocabulary=64, width=8, dtype=torch.float32)
    predicted_IMD, target_MD = normal(2, 2, 5, 8, dtype=torch.float32), normal(3, 5, 8, dtype=torch.float32)
    rounded = LMHead(
        head.weight_VD.bfloat16(), head.bias_V if head.bias_V is None else head.bias_V.bfloat16(), *head[2:]
    )
    values = []
    with torch.autocast("cpu", torch.bfloat16):
        hidden_IMD = predicted_IMD.clone().requires_grad_()
        kl_IM = latent_kl(hidden_IMD, target_MD, head)
        values.append((kl_IM, *torch.autograd.grad(kl_IM.sum(), hidden_IMD)))
    hidden_IMD = predicted_IMD.bfloat16().requires_grad_()
    kl_IM = latent_kl(hidden_IMD, target_MD.bfloat16(), rounded)
    values.append((kl_IM, torch.autograd.grad(kl_IM.sum(), hidden_IMD)[0].float()))
    assert all(torch.equal(*pair) for pair in zip(*values, strict=True))
    exact_IM = plain_kl(predicted_IMD, target_MD, head)
    torch.testing.assert_close(kl_IM, exact_IM, rtol=0.1, atol=0.05)


# --- the KL of a row


@settings(max_examples=40)
@given(rows=padded_rows(), data=st.data())
def test_kl_rows_equal_a_slow_loop_in_value_and_gradient(rows, data):
    """Labels anywhere, as a mask of the prompt or of single turns leaves them."""
    lengths, steps, seed = rows
    labelled = data.draw(
        st.lists(st.booleans(), min_size=is_token(lengths).numel(), max_size=is_token(lengths).numel())
    )
    is_labelled_NS = torch.tensor(labelled).view(is_token(lengths).shape) & is_token(lengths)
    hidden_NSD = normal(seed, len(lengths), max(lengths), 4).requires_grad_()
    embedding_NSD, head = normal(seed + 1, len(lengths), max(lengths), 4), new_head("all")

    def slow(*inputs):
        return slow_mean(lambda p, t: plain_kl(p, t, head), *inputs)

    values = []
    for mean in (lambda *inputs: kl_rows(*inputs[:-1], *places(inputs[-1]), head, chunk_tokens=2), slow):
        loss_N = mean(roll_out(nonlinear, hidden_NSD, embedding_NSD, steps), hidden_NSD, is_labelled_NS)
        weighted = (loss_N * torch.arange(1, len(lengths) + 1)).sum()
        values.append((loss_N, *torch.autograd.grad(weighted, hidden_NSD)))
    torch.testing.assert_close(*values)


def test_only_labelled_positions_meet_the_vocabulary():
    """Two of six positions are labelled."""
    hidden_NSD, head = normal(0, 1, 6, 4), new_head("plain", vocabulary=1000)
    is_labelled_NS = torch.tensor([[False, True, False, True, False, False]])
    with Watch() as watch:
        kl_rows(roll_out(torch.add, hidden_NSD, hidden_NSD, 2), hidden_NSD, *places(is_labelled_NS), head)
    assert watch.largest == 2 * 1000
