"""InfoNCE: hand-computed values, a slow loop as the oracle, gradients by finite differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llm_jepa.objectives.losses import (
    OtherRows,
    info_nce_loss,
    negatives_mask,
    pair_loss,
    symmetric_info_nce_loss,
)
from llm_jepa.objectives.negatives import rows_without_negatives


def random_pair(seed: int, rows: int, width: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, width, generator=generator, dtype=dtype) for _ in range(2))


def slow_info_nce(
    prediction_ND: Tensor, target_ND: Tensor, temperature: float, keys: list[int] | None = None
) -> list[float]:
    """Written out: cosine of every prediction with every target, softmax over the own target and unequal ones."""
    predictions, targets = prediction_ND.tolist(), target_ND.tolist()
    keys = list(range(len(targets))) if keys is None else keys
    losses = []
    for i, prediction in enumerate(predictions):
        scores = {}
        for j, target in enumerate(targets):
            if j == i or keys[j] != keys[i]:
                dot = sum(p * t for p, t in zip(prediction, target, strict=True))
                scores[j] = math.exp(dot / (math.hypot(*prediction) * math.hypot(*target)) / temperature)
        losses.append(-math.log(scores[i] / sum(scores.values())))
    return losses


def test_orthogonal_pairs_by_hand():
    """Two pairs, own cosine 1 and the other 0: log(1 + exp(-1 / temperature))."""
    embedding_ND = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    expected = math.log(1 + math.exp(-1 / 0.5))
    torch.testing.assert_close(info_nce_loss(embedding_ND, embedding_ND, 0.5), torch.full((2,), expected))


def test_collapsed_embeddings_give_the_logarithm_of_the_batch():
    """All alike, so each of the five targets is as likely as another."""
    same_ND = torch.ones(5, 3)
    torch.testing.assert_close(info_nce_loss(same_ND, same_ND, 0.07), torch.full((5,), math.log(5)))


def test_direction_is_from_prediction_to_target():
    """The softmax runs over the targets: two equal targets confuse every prediction that is nearest to them."""
    prediction_ND = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    target_ND = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(info_nce_loss(prediction_ND, target_ND, 1.0), torch.full((2,), math.log(2)))
    swapped = info_nce_loss(target_ND, prediction_ND, 1.0)
    torch.testing.assert_close(swapped, torch.tensor([math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))]))


@given(
    seed=st.integers(0, 2**32 - 1),
    keys=st.lists(st.integers(-2, 2), min_size=2, max_size=6),
    width=st.integers(2, 6),
    temperature=st.sampled_from([0.07, 0.5, 2.0]),
)
def test_slow_loop_agrees(seed: int, keys: list[int], width: int, temperature: float):
    """One loss per row; rows with equal keys are no negatives of each other. Symmetric is the mean of both ways."""
    prediction_ND, target_ND = random_pair(seed, len(keys), width)
    key_N = torch.tensor(keys)
    forward, backward = (
        torch.tensor(slow_info_nce(*pair, temperature, keys), dtype=torch.float64)
        for pair in ((prediction_ND, target_ND), (target_ND, prediction_ND))
    )
    near = {"atol": 1e-9, "rtol": 1e-9}
    torch.testing.assert_close(info_nce_loss(prediction_ND, target_ND, temperature, key_N), forward, **near)
    symmetric_N = symmetric_info_nce_loss(prediction_ND, target_ND, temperature, key_N)
    torch.testing.assert_close(symmetric_N, (forward + backward) / 2, **near)


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 6))
def test_without_keys_every_other_row_is_a_negative(seed: int, rows: int):
    """The same as with keys that all differ."""
    prediction_ND, target_ND = random_pair(seed, rows, 3)
    with_keys_N = info_nce_loss(prediction_ND, target_ND, 0.5, torch.arange(rows))
    assert torch.equal(info_nce_loss(prediction_ND, target_ND, 0.5), with_keys_N)


# --- equal targets


def test_rows_of_one_target_are_no_negatives_of_each_other_by_hand():
    """Targets yes, yes, no, orthogonal for unequal texts; every prediction is right."""
    embedding_ND = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    key_N = torch.tensor([7, 7, 9])
    one, two = math.log(1 + math.exp(-1)), math.log(1 + 2 * math.exp(-1))
    torch.testing.assert_close(info_nce_loss(embedding_ND, embedding_ND, 1.0, key_N), torch.tensor([one, one, two]))
    assert negatives_mask(3, key_N, None).tolist() == [[False, False, True], [False, False, True], [True, True, False]]


@pytest.mark.parametrize("loss", [info_nce_loss, symmetric_info_nce_loss])
def test_a_row_whose_target_all_others_share_has_no_loss_and_no_gradient(loss):
    prediction_ND, target_ND = (tensor.requires_grad_() for tensor in random_pair(4, 3, 4))
    loss_N = loss(prediction_ND, target_ND, 0.07, torch.tensor([5, 5, 5]))
    loss_N.sum().backward()
    assert loss_N.tolist() == [0.0, 0.0, 0.0]
    assert prediction_ND.grad.abs().max() == target_ND.grad.abs().max() == 0
    assert rows_without_negatives(torch.tensor([5, 5, 5]), None) == 3
    assert rows_without_negatives(torch.tensor([5, 5, 6]), None) == 0


def test_an_equal_target_gets_no_gradient_and_the_others_that_of_finite_differences():
    """Row 0 neither pushes target 1 away nor is it part of its softmax."""
    prediction_ND, target_ND = (tensor.requires_grad_() for tensor in random_pair(5, 3, 4))
    key_N = torch.tensor([7, 7, 9])
    info_nce_loss(prediction_ND, target_ND, 0.5, key_N)[0].backward()
    assert [row.abs().max().item() > 0 for row in target_ND.grad] == [True, False, True]
    for loss in (info_nce_loss, symmetric_info_nce_loss):
        gradcheck = torch.autograd.gradcheck
        assert gradcheck(lambda p, t, loss=loss: loss(p, t, 0.5, key_N), (prediction_ND, target_ND))


def test_symmetric_is_the_same_in_both_directions_by_hand():
    """Of two equal targets with unequal texts: log 2 one way; the other way as in the test of the direction."""
    prediction_ND, target_ND = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    backward = torch.tensor([math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))])
    expected_N = (math.log(2) + backward) / 2
    torch.testing.assert_close(symmetric_info_nce_loss(prediction_ND, target_ND, 1.0), expected_N)
    torch.testing.assert_close(symmetric_info_nce_loss(target_ND, prediction_ND, 1.0), expected_N)


# --- gradients and precision


def test_gradients_through_both_arguments():
    """Against finite differences, in float64."""
    prediction_ND, target_ND = (tensor.requires_grad_() for tensor in random_pair(0, 3, 4))
    assert torch.autograd.gradcheck(lambda p, t: info_nce_loss(p, t, 0.5), (prediction_ND, target_ND))


def test_autocast_does_not_touch_the_loss():
    """At a temperature of 0.07 a cosine rounded to bfloat16 would shift the loss by several hundredths."""
    prediction_ND, target_ND = random_pair(1, 4, 64, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss_N = info_nce_loss(prediction_ND, target_ND, 0.07)
    assert torch.equal(loss_N, info_nce_loss(prediction_ND, target_ND, 0.07))


def test_half_precision_is_computed_in_float32():
    """bfloat16 embeddings give the same loss as their float32 copies."""
    prediction_ND, target_ND = random_pair(2, 4, 64, torch.bfloat16)
    expected_N = info_nce_loss(prediction_ND.float(), target_ND.float(), 0.07)
    assert torch.equal(info_nce_loss(prediction_ND, target_ND, 0.07), expected_N)


def test_one_row_has_no_negatives():
    """An error, since the loss would be 0 whatever the embeddings are."""
    with pytest.raises(ValueError, match="has one row; it needs at least two"):
        info_nce_loss(torch.ones(1, 3), torch.ones(1, 3), 0.07)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperature_must_be_positive(temperature: float):
    """The message names it."""
    with pytest.raises(ValueError, match=f"temperature is {temperature}"):
        info_nce_loss(torch.ones(2, 3), torch.ones(2, 3), temperature)


def test_wrong_shapes_are_named():
    """Both of them."""
    with pytest.raises(ValueError, match=r"\(2, 3\) and the target \(3, 3\)"):
        info_nce_loss(torch.ones(2, 3), torch.ones(3, 3), 0.07)


@pytest.mark.parametrize(
    ("name", "loss"), [("info_nce", info_nce_loss), ("info_nce_symmetric", symmetric_info_nce_loss)]
)
def test_recipe_name_finds_the_loss(name, loss):
    """`pair_loss` hands the temperature and the keys on."""
    prediction_ND, target_ND = random_pair(3, 3, 4)
    key_N = torch.tensor([1, 1, 2])
    expected_N = loss(prediction_ND, target_ND, 0.3, key_N)
    assert torch.equal(pair_loss(name, prediction_ND, target_ND, 0.3, key_N), expected_N)


# --- other processes


@pytest.mark.parametrize("keys", [[0, 1, 2, 3, 4], [0, 1, 0, 1, 0], [6, 6, 6, 6, 6]])
def test_rows_of_another_process_stand_beside_those_of_this_one(keys):
    """The rows of two processes, each padded to three: together they give what all five rows give in one."""
    prediction_ND, target_ND = random_pair(0, 5, 4)
    key_N = torch.tensor(keys)
    rows = [slice(0, 3), slice(3, 5)]
    is_other = [torch.tensor([False] * 3 + [True, True, False]), torch.tensor([True] * 3 + [False] * 3)]
    everything = [torch.cat([tensor, tensor[:1] * 0]) for tensor in (prediction_ND, target_ND, key_N)]
    for loss, ways in ((info_nce_loss, [0]), (symmetric_info_nce_loss, [0, 1])):
        pairs = [(prediction_ND, target_ND), (target_ND, prediction_ND)]
        slow = [torch.tensor(slow_info_nce(*pairs[way], 0.5, keys), dtype=torch.float64) for way in ways]
        parts = [
            loss(prediction_ND[own], target_ND[own], 0.5, key_N[own], OtherRows(*everything, mask_M))
            for own, mask_M in zip(rows, is_other, strict=True)
        ]
        torch.testing.assert_close(torch.cat(parts), sum(slow) / len(slow))


def test_one_row_is_enough_where_other_processes_have_some():
    keys, two = torch.tensor([3, 4]), torch.eye(2)
    others = OtherRows(two, two, keys, torch.tensor([False, True]))
    loss_N = info_nce_loss(two[:1], two[:1], 1.0, keys[:1], others)
    torch.testing.assert_close(loss_N, torch.tensor([math.log(1 + math.exp(-1))]))
    assert rows_without_negatives(keys[:1], others) == 0
