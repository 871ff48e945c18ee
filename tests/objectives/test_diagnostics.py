"""The diagnostics: hand-computed values and known limits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llm_jepa.objectives.diagnostics import (
    PairBuffer,
    collapse_warning,
    effective_rank,
    linear_map_error,
    paired_cosine,
    retrieval_at_1,
    singular_values_of_difference,
    unpaired_cosine,
)

EAST, NORTH, NORTH_EAST = [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]


def random_rows(seed: int, rows: int, width: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def test_paired_cosine_by_hand():
    """Mean of 1 and 0; lengths do not matter."""
    prediction_ND, target_ND = torch.tensor([EAST, EAST]) * 3, torch.tensor([EAST, NORTH]) * 7
    assert paired_cosine(prediction_ND, target_ND).item() == pytest.approx(0.5)


def test_unpaired_cosine_leaves_the_pairs_out():
    """cos(p0, t1) = sqrt(1/2) and cos(p1, t0) = 0; the pairs themselves have 1."""
    prediction_ND = torch.tensor([EAST, NORTH_EAST])
    target_ND = torch.tensor([EAST, NORTH_EAST])
    expected = math.sqrt(0.5)
    assert unpaired_cosine(prediction_ND, target_ND).item() == pytest.approx(expected)
    assert unpaired_cosine(prediction_ND, torch.tensor([NORTH, NORTH_EAST])).item() == pytest.approx(expected)


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 9), width=st.integers(1, 8))
def test_unpaired_cosine_is_the_mean_over_all_other_pairs(seed: int, rows: int, width: int):
    """Against a loop."""
    prediction_ND, target_ND = random_rows(seed, rows, width), random_rows(seed + 1, rows, width)
    cosines = [
        torch.cosine_similarity(prediction_ND[i], target_ND[j], dim=0).item()
        for i in range(rows)
        for j in range(rows)
        if i != j
    ]
    assert unpaired_cosine(prediction_ND, target_ND).item() == pytest.approx(sum(cosines) / len(cosines), abs=1e-5)


def test_the_cosine_of_equal_targets_is_not_unpaired():
    """Answers yes, yes, no: the cosines of other answers are those of rows 0 and 1 with 2, and of 2 with 0 and 1."""
    prediction_ND, target_ND = torch.tensor([EAST, EAST, NORTH_EAST]), torch.tensor([EAST, EAST, NORTH])
    expected = (0 + 0 + 2 * math.sqrt(0.5)) / 4
    assert unpaired_cosine(prediction_ND, target_ND, torch.tensor([4, 4, 5])).item() == pytest.approx(expected)


@pytest.mark.parametrize("key_N", [None, torch.tensor([4]), torch.tensor([4, 4])])
def test_unpaired_cosine_needs_two_targets(key_N: Tensor | None):
    """There is nothing to average otherwise."""
    rows_ND = torch.ones(1 if key_N is None else len(key_N), 3)
    with pytest.raises(ValueError, match=f"different targets; of {len(rows_ND)} there are none"):
        unpaired_cosine(rows_ND, rows_ND, key_N)


def test_one_target_has_no_unpaired_cosine():
    buffer = PairBuffer()
    buffer.append(torch.ones(4, 2), torch.ones(4, 2), torch.full((4,), 7))
    assert buffer.summary() == {"jepa_effective_rank": pytest.approx(1.0, abs=1e-4), "jepa_retrieval_at_1": 0.0}


def test_retrieval_by_hand():
    """The first two find their own target; the third is nearer to the first's: 2 of 3."""
    prediction_ND = torch.tensor([[1.0, 0.1], [0.1, 1.0], [1.0, 0.2]])
    target_ND = torch.tensor([EAST, NORTH, NORTH_EAST])
    assert retrieval_at_1(prediction_ND, target_ND).item() == pytest.approx(2 / 3)


def test_retrieval_of_distinct_targets_is_perfect():
    """Each prediction is its own target."""
    embedding_ND = random_rows(0, 20, 16)
    assert retrieval_at_1(embedding_ND, embedding_ND).item() == 1.0


@pytest.mark.parametrize("rows", [2, 5, 16, 70])
@pytest.mark.parametrize("width", [8, 32, 576, 2048])
def test_retrieval_among_equal_targets_is_zero(rows: int, width: int):
    """A tie is a miss, also where the matrix product rounds equal rows differently: collapse is no skill."""
    collapsed_ND = random_rows(width, 1, width).repeat(rows, 1)
    assert retrieval_at_1(collapsed_ND, collapsed_ND).item() == 0.0
    assert retrieval_at_1(random_rows(rows, rows, width), collapsed_ND).item() == 0.0


def test_retrieval_counts_a_tie_with_one_other_as_a_miss():
    """Two of three targets are equal: only the third prediction finds its own."""
    target_ND = torch.tensor([EAST, EAST, NORTH])
    assert retrieval_at_1(target_ND, target_ND).item() == pytest.approx(1 / 3)


def test_retrieval_does_not_tell_rows_of_one_target_apart():
    """Of the answers yes, yes, no, the last prediction is wrong; alone with its own answer, none is right."""
    target_ND, key_N = torch.tensor([EAST, EAST, NORTH]), torch.tensor([4, 4, 5])
    assert retrieval_at_1(target_ND, target_ND, key_N).item() == 1.0
    assert retrieval_at_1(torch.tensor([EAST] * 3), target_ND, key_N).item() == pytest.approx(2 / 3)
    assert retrieval_at_1(target_ND, target_ND, torch.tensor([4, 4, 4])).item() == 0.0
    buffer = PairBuffer()
    for row in range(3):
        buffer.append(target_ND[row : row + 1], target_ND[row : row + 1], key_N[row : row + 1])
    assert buffer.summary()["jepa_retrieval_at_1"] == 1.0


def test_effective_rank_of_identical_rows_is_one():
    """Whatever their lengths are."""
    rows_ND = random_rows(0, 1, 16) * torch.tensor([[1.0], [2.0], [0.5], [30.0]])
    assert effective_rank(rows_ND).item() == pytest.approx(1.0, abs=1e-4)


def test_effective_rank_of_opposite_rows_is_one():
    """They lie on one line."""
    assert effective_rank(torch.tensor([EAST, [-1.0, 0.0]])).item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_effective_rank_of_orthogonal_rows_is_their_number(rows: int):
    """Also when their lengths differ, since rows are brought to unit length."""
    lengths = torch.arange(1, rows + 1, dtype=torch.float32)[:, None]
    assert effective_rank(torch.eye(8)[:rows] * lengths).item() == pytest.approx(rows, rel=1e-5)


def test_effective_rank_is_bounded_by_the_width():
    """Twenty rows that repeat two directions equally often."""
    assert effective_rank(torch.tensor([EAST, NORTH] * 10)).item() == pytest.approx(2.0, rel=1e-5)


def test_effective_rank_by_hand():
    """Three rows east, one north: singular values sqrt(3) and 1."""
    p = math.sqrt(3) / (math.sqrt(3) + 1)
    expected = math.exp(-p * math.log(p) - (1 - p) * math.log(1 - p))
    assert effective_rank(torch.tensor([EAST, EAST, EAST, NORTH])).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("unpaired", "rank"), [(0.995, 30.0), (0.2, 1.5), (0.995, 1.0), (float("nan"), 30.0)])
def test_collapse_is_told(unpaired: float, rank: float):
    """All alike, or all on one line; NaN is no good sign either."""
    message = collapse_warning(unpaired, rank, 64)
    assert message is not None
    assert f"{rank:.2f}" in message


def test_healthy_embeddings_give_no_warning():
    """Unpaired views differ and the rank is high."""
    assert collapse_warning(0.5, 20.0, 64) is None
    assert collapse_warning(0.5, 1.9, 2) is None  # two answers lie on a line
    assert collapse_warning(0.995, 1.9, 2) is not None


def numbered_pairs(first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs that can be told apart, and their keys: prediction and target n lie at the angle n / 100 (width two)."""
    angle_N = torch.arange(first, last) / 100
    rows_ND = torch.stack([angle_N.cos(), angle_N.sin()], dim=1)
    return rows_ND, rows_ND, torch.arange(first, last)


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=20), min_pairs=st.integers(1, 12))
def test_buffer_keeps_the_latest_batches_and_no_more_than_needed(sizes: list[int], min_pairs: int):
    """At least `min_pairs` once as many were seen; one batch fewer would be too few."""
    buffer = PairBuffer(min_pairs)
    for size in sizes:
        buffer.append(*numbered_pairs(0, size))
    kept = 0
    while kept < len(sizes) and sum(sizes[len(sizes) - kept :]) < min_pairs:
        kept += 1
    assert len(buffer) == sum(sizes[len(sizes) - kept :])


def test_buffer_drops_the_oldest_first():
    """After the first batch has gone, the summary is that of the last two."""
    buffer = PairBuffer(min_pairs=8)
    for first in (0, 100, 200):
        buffer.append(*numbered_pairs(first, first + 4))
    last_two = [torch.cat(pair) for pair in zip(numbered_pairs(100, 104), numbered_pairs(200, 204), strict=True)]
    assert len(buffer) == 8
    assert buffer.summary()["jepa_cosine_unpaired"] == pytest.approx(unpaired_cosine(*last_two[:2]).item())


def test_buffer_keeps_64_pairs_by_default():
    """Batches of sixteen: four remain."""
    buffer = PairBuffer()
    for _ in range(10):
        buffer.append(*numbered_pairs(0, 16))
    assert len(buffer) == 64


def test_summary_is_of_all_pairs_and_ranks_the_targets():
    """Four predictions on one line, four orthogonal targets, in two batches."""
    buffer = PairBuffer()
    prediction_ND, target_ND = torch.ones(4, 4), torch.eye(4)
    buffer.append(prediction_ND[:1], target_ND[:1], torch.arange(1))
    buffer.append(prediction_ND[1:], target_ND[1:], torch.arange(1, 4))
    summary = buffer.summary()
    assert summary["jepa_cosine_unpaired"] == pytest.approx(0.5)
    assert summary["jepa_effective_rank"] == pytest.approx(4.0, rel=1e-5)
    assert summary["jepa_retrieval_at_1"] == 0.0


def test_summary_of_fewer_than_two_pairs_is_empty():
    """Nothing can be unpaired."""
    buffer = PairBuffer()
    assert buffer.summary() == {}
    buffer.append(*numbered_pairs(0, 1))
    assert buffer.summary() == {}


def test_buffer_holds_no_graph():
    """Pairs of a training step would otherwise keep its activations alive."""
    weight = torch.ones(2, 3, requires_grad=True)
    buffer = PairBuffer()
    buffer.append(weight * 2, weight * 3, torch.arange(2))
    assert all(not tensor.requires_grad for pair in buffer._batches for tensor in pair)


def test_clear_forgets_every_pair():
    """Between two evaluations."""
    buffer = PairBuffer()
    buffer.append(*numbered_pairs(0, 5))
    buffer.clear()
    assert len(buffer) == 0
    assert buffer.summary() == {}


def test_singular_values_of_a_shift_in_one_direction():
    """Each unit row differs from its partner by the same vector of length sqrt(2): one value, sqrt(2), the rest 0."""
    source_ND, target_ND = torch.tensor([[1.0, 0.0, 0.0]] * 5), torch.tensor([[0.0, 1.0, 0.0]] * 5)
    values_K = singular_values_of_difference(source_ND, target_ND)
    assert values_K.tolist() == pytest.approx([2**0.5, 0, 0], abs=1e-6)


def test_a_linear_map_is_found_and_noise_is_not():
    """Targets that are a linear map of the sources, plus a constant: error 0; targets of their own: 1 or more."""
    generator = torch.Generator().manual_seed(0)
    source_ND, map_DD = (torch.randn(shape, generator=generator) for shape in ((400, 6), (6, 6)))
    assert linear_map_error(source_ND, source_ND @ map_DD + 3).item() == pytest.approx(0, abs=1e-4)
    assert linear_map_error(source_ND, torch.randn(400, 6, generator=generator)).item() > 0.95


def test_a_linear_map_of_fewer_rows_than_dimensions_is_tried_on_rows_that_it_has_not_seen():
    generator = torch.Generator().manual_seed(0)
    source_ND, target_ND = (torch.randn(20, 64, generator=generator) for _ in range(2))
    assert linear_map_error(source_ND, target_ND).item() > 0.9
    with pytest.raises(ValueError, match="needs four rows; there are 3"):
        linear_map_error(source_ND[:3], target_ND[:3])
