"""The loss of each row is that of its formula, written as loops; equal answers are no negatives of each other."""

import math

import pytest
import torch
from torch import Tensor

from llm_jepa.objectives.base import Place
from llm_jepa.objectives.pair_term import pair_term
from llm_jepa.options.vision import VisionLossOptions

KEYS = torch.tensor([7, 9, 7, 3, 9])
TEMPERATURE = 0.2


def embeddings() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)
    return draw[0].requires_grad_(), draw[1].requires_grad_()


def loss(prediction: Tensor, target: Tensor, temperature=TEMPERATURE, **options):
    return pair_term(prediction, target, KEYS, temperature, VisionLossOptions(**options), Place(max_rows=5, seed=1))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return a @ b / (a.norm() * b.norm())


def slow_info_nce(queries: Tensor, candidates: Tensor, temperature=TEMPERATURE) -> list[Tensor]:
    losses = []
    for i, query in enumerate(queries):
        weights = {
            j: torch.exp(cosine(query, candidate) / temperature)
            for j, candidate in enumerate(candidates)
            if j == i or KEYS[j] != KEYS[i]
        }
        losses.append(-torch.log(weights[i] / sum(weights.values())))
    return losses


def slow_loss(prediction: Tensor, target: Tensor, kind: str, temperature=TEMPERATURE) -> Tensor:
    forward = slow_info_nce(prediction, target, temperature)
    backward = slow_info_nce(target, prediction, temperature)
    return {
        "info_nce": lambda: torch.stack(forward),
        "info_nce_symmetric": lambda: (torch.stack(forward) + torch.stack(backward)) / 2,
        "cosine": lambda: torch.stack([1 - cosine(*pair) for pair in zip(prediction, target, strict=True)]),
    }[kind]()


@pytest.mark.parametrize("kind", ["info_nce", "info_nce_symmetric", "cosine"])
def test_loss_and_gradient_are_those_of_the_formula(kind):
    for weight in (torch.ones(5), torch.arange(5.0)):
        fast, slow = embeddings(), embeddings()
        loss_N = loss(*fast, jepa_loss=kind).loss_N
        expected_N = slow_loss(*slow, kind)
        torch.testing.assert_close(loss_N, expected_N)
        (loss_N * weight).sum().backward()
        (expected_N * weight).sum().backward()
        for mine, its in zip(fast, slow, strict=True):
            torch.testing.assert_close(mine.grad, its.grad)


def test_a_learned_temperature_has_the_gradient_of_the_formula():
    logs = [torch.tensor([math.log(0.2)], dtype=torch.float64, requires_grad=True) for _ in range(2)]
    loss(*embeddings(), temperature=logs[0].exp()).loss_N.sum().backward()
    slow_loss(*embeddings(), "info_nce_symmetric", logs[1].exp()).sum().backward()
    torch.testing.assert_close(logs[0].grad, logs[1].grad)
    assert logs[0].grad.item() != 0


def test_a_stopped_gradient_leaves_the_loss_as_it_is():
    prediction, target = embeddings()
    loss_N = loss(prediction, target, jepa_target="stop_gradient").loss_N
    torch.testing.assert_close(loss_N, loss(*embeddings()).loss_N)
    loss_N.sum().backward()
    assert target.grad is None
    assert prediction.grad is not None


@pytest.mark.parametrize("kind", ["sigreg", "vicreg"])
def test_a_regulariser_is_added_to_every_row_with_its_weight(kind):
    plain, result = loss(*embeddings()), loss(*embeddings(), jepa_regulariser=kind, regulariser_weight=0.5)
    term = result.sums["jepa_regulariser"] / 5
    assert term > 0
    torch.testing.assert_close(result.loss_N, plain.loss_N + 0.5 * term)


def test_what_is_logged():
    prediction, target = embeddings()
    sums = loss(prediction, target).sums
    pairs = zip(prediction, target, strict=True)
    assert sums["jepa_cosine"].item() == pytest.approx(sum(cosine(*pair).item() for pair in pairs), rel=1e-5)
    assert sums["jepa_without_negatives"] == 0
    one_answer = pair_term(*embeddings(), torch.zeros(5, dtype=torch.long), 0.2, VisionLossOptions(), Place(5))
    assert one_answer.sums["jepa_without_negatives"] == 5
    assert (one_answer.loss_N == 0).all()


@pytest.mark.parametrize("kind", ["info_nce", "info_nce_symmetric"])
def test_a_batch_with_one_answer_alone_teaches_nothing_and_says_so(kind):
    """There is nothing to tell apart: loss and gradient are 0, not NaN, also at the lowest temperature."""
    prediction, target = embeddings()
    options = VisionLossOptions(jepa_loss=kind)
    temperature = torch.tensor([0.01], dtype=torch.float64, requires_grad=True)
    result = pair_term(prediction, target, torch.full((5,), 7), temperature, options, Place(max_rows=5))
    result.loss_N.sum().backward()
    assert result.sums["jepa_without_negatives"] == 5
    assert result.loss_N.abs().max() == 0
    for gradient in (prediction.grad, target.grad, temperature.grad):
        assert gradient.abs().max() == 0
