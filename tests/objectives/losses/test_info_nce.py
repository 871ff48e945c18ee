"""InfoNCE: hand-computed values, a slow loop as the oracle, gradients by finite differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llm_jepa.objectives.losses import info_nce_loss, pair_loss


def random_pair(seed: int, rows: int, width: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, width, generator=generator, dtype=dtype) for _ in range(2))


def slow_info_nce(prediction_ND: Tensor, target_ND: Tensor, temperature: float) -> list[float]:
    """Written out: cosine of every prediction with every target, softmax over the targets."""
    predictions, targets = prediction_ND.tolist(), target_ND.tolist()
    losses = []
    for i, prediction in enumerate(predictions):
        scores = []
        for target in targets:
            dot = sum(p * t for p, t in zip(prediction, target, strict=True))
            scores.append(math.exp(dot / (math.hypot(*prediction) * math.hypot(*target)) / temperature))
        losses.append(-math.log(scores[i] / sum(scores)))
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
    rows=st.integers(2, 6),
    width=st.integers(2, 6),
    temperature=st.sampled_from([0.07, 0.5, 2.0]),
)
def test_slow_loop_agrees(seed: int, rows: int, width: int, temperature: float):
    """One loss per row."""
    prediction_ND, target_ND = random_pair(seed, rows, width)
    expected = torch.tensor(slow_info_nce(prediction_ND, target_ND, temperature), dtype=torch.float64)
    torch.testing.assert_close(info_nce_loss(prediction_ND, target_ND, temperature), expected, atol=1e-9, rtol=1e-9)


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


def test_recipe_name_finds_the_loss():
    """`pair_loss` hands the temperature on."""
    prediction_ND, target_ND = random_pair(3, 3, 4)
    expected_N = info_nce_loss(prediction_ND, target_ND, 0.3)
    assert torch.equal(pair_loss("info_nce", prediction_ND, target_ND, temperature=0.3), expected_N)


def test_negatives_of_another_process_stand_beside_those_of_this_one():
    """The rows of two processes, each padded to three: together they give what all five rows give in one."""
    prediction_ND, target_ND = random_pair(0, 5, 4)
    padded_MD = torch.cat([target_ND[:3], target_ND[3:], torch.zeros(1, 4, dtype=torch.float64)])
    is_second_M = torch.tensor([False, False, False, True, True, False])
    is_first_M = torch.tensor([True, True, True, False, False, False])
    first_N = info_nce_loss(prediction_ND[:3], target_ND[:3], 0.5, padded_MD, is_second_M)
    second_N = info_nce_loss(prediction_ND[3:], target_ND[3:], 0.5, padded_MD, is_first_M)
    assert torch.cat([first_N, second_N]).tolist() == pytest.approx(slow_info_nce(prediction_ND, target_ND, 0.5))


def test_one_row_is_enough_where_other_processes_have_some():
    loss_N = info_nce_loss(torch.eye(2)[:1], torch.eye(2)[:1], 1.0, torch.eye(2)[1:], torch.tensor([True]))
    torch.testing.assert_close(loss_N, torch.tensor([math.log(1 + math.exp(-1))]))
