"""The learned [PRED] vectors: their start values, and their place among the embeddings."""

import pytest
import torch

from llm_jepa.objectives.predictor import PredictorTokens, new_predictor
from tests.architectures import tiny_model
from tests.tiny import tiny_llama


def test_vectors_take_the_place_of_the_embeddings_at_their_slots():
    """Slot j is the j-th vector; slot 0 leaves the embedding as it is."""
    predictor = PredictorTokens(torch.tensor([[10.0, 11.0], [20.0, 21.0]]))
    embeddings_RLD = torch.arange(8.0).reshape(1, 4, 2)
    replaced_RLD = predictor(embeddings_RLD, torch.tensor([[0, 2, 0, 1]]))
    assert replaced_RLD.tolist() == [[[0.0, 1.0], [20.0, 21.0], [4.0, 5.0], [10.0, 11.0]]]


def test_gradient_reaches_exactly_the_used_vectors():
    """Twice for a vector used twice; none for the unused one, none for the embedding that was replaced."""
    predictor = PredictorTokens(torch.zeros(3, 2))
    embeddings_RLD = torch.zeros(1, 4, 2, requires_grad=True)
    predictor(embeddings_RLD, torch.tensor([[0, 1, 3, 3]])).sum().backward()
    assert predictor.vectors_KD.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]]
    assert embeddings_RLD.grad.tolist() == [[[1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]


def test_vectors_are_kept_in_float32_and_enter_in_the_models_precision():
    """As fp32 master weights beside bfloat16 embeddings."""
    predictor = PredictorTokens(torch.ones(1, 2, dtype=torch.bfloat16))
    assert predictor.vectors_KD.dtype == torch.float32
    assert predictor(torch.zeros(1, 1, 2, dtype=torch.bfloat16), torch.tensor([[1]])).dtype == torch.bfloat16


def test_start_values_are_distinct_and_repeatable():
    """k different vectors, the same for the same seed, others for another."""
    model = tiny_llama()
    vectors_KD = new_predictor(model, 16, seed=3).vectors_KD
    assert torch.pdist(vectors_KD).min() > 0.1
    assert torch.equal(vectors_KD, new_predictor(model, 16, seed=3).vectors_KD)
    assert not torch.isclose(vectors_KD, new_predictor(model, 16, seed=4).vectors_KD).any()


def test_drawing_leaves_the_global_random_state_alone():
    """Else adapter and data order would differ from those of the LM-only arm."""
    model = tiny_llama()
    before = torch.get_rng_state()
    new_predictor(model, 2, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_start_values_follow_the_token_embeddings_dimension_by_dimension():
    """Mean and deviation of 4,000 vectors against those of the embeddings, no two dimensions alike."""
    model = tiny_llama()
    mean_D, deviation_D = torch.linspace(-5, 5, 32), torch.linspace(0.1, 3, 32)
    weight_VD = model.get_input_embeddings().weight.data
    weight_VD.copy_((weight_VD - weight_VD.mean(0)) / weight_VD.std(0) * deviation_D + mean_D)
    vectors_KD = new_predictor(model, 4000, seed=0).vectors_KD
    standard_error_D = deviation_D / 4000**0.5
    assert ((vectors_KD.mean(0) - mean_D).abs() < 5 * standard_error_D).all()
    assert ((vectors_KD.std(0) / deviation_D - 1).abs() < 0.06).all()


def test_start_values_have_the_scale_that_the_embedding_layer_gives_out():
    """Gemma 3 multiplies its embeddings within the layer; the vectors enter behind that."""
    model = tiny_model("gemma3")
    embed = model.get_input_embeddings()
    output_deviation = embed(torch.arange(48)).std().item()
    assert output_deviation == pytest.approx(embed.weight.std().item() * 32**0.5, rel=1e-3)
    assert new_predictor(model, 200, seed=0).vectors_KD.std().item() == pytest.approx(output_deviation, rel=0.1)
