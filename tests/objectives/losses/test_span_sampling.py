"""Samplers: every outcome valid, and each as likely as stated."""

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llm_jepa.objectives.draws import uniform_draws
from llm_jepa.objectives.losses.span_sampling import sample_patch, sample_tube

unit = st.floats(min_value=0, max_value=1, exclude_max=True)
draws = st.tuples(unit, unit, unit).map(lambda numbers: torch.tensor([numbers], dtype=torch.float64))


def drawn(sample, sampler: str, tokens: int, number: int = 20_000) -> Counter:
    draw_NC = uniform_draws(0, 0, torch.arange(number), 3)
    found = sample(draw_NC, torch.full((number,), tokens), sampler)
    return Counter(map(tuple, found.tolist()))


def assert_as_likely(counts: Counter, probability: dict) -> None:
    assert counts.keys() <= probability.keys()
    observed = [counts[outcome] for outcome in probability]
    expected = [share * sum(observed) for share in probability.values()]
    assert stats.chisquare(observed, expected).pvalue > 0.001


@given(draws, st.integers(3, 100_000), st.sampled_from(["ends", "uniform"]))
def test_a_tube_is_three_content_tokens_in_order(draw_NC, tokens, sampler):
    s, r, t = sample_tube(draw_NC, torch.tensor([tokens]), sampler)[0].tolist()
    assert 0 <= s < r < t < tokens
    assert sampler == "uniform" or (s, t) == (0, tokens - 1)


@given(draws, st.integers(2, 100_000), st.sampled_from(["start_first", "uniform"]))
def test_a_patch_is_a_span_shorter_than_the_content(draw_NC, tokens, sampler):
    a, b = sample_patch(draw_NC, torch.tensor([tokens]), sampler)[0].tolist()
    assert 0 <= a < b <= tokens
    assert b - a < tokens


@pytest.mark.parametrize("tokens", [4, 6])
def test_ends_draws_every_token_between_alike(tokens):
    between = range(1, tokens - 1)
    assert_as_likely(drawn(sample_tube, "ends", tokens), {(0, r, tokens - 1): 1 / len(between) for r in between})


@pytest.mark.parametrize("tokens", [4, 6])
def test_uniform_draws_every_triple_alike(tokens):
    triples = list(itertools.combinations(range(tokens), 3))
    assert_as_likely(drawn(sample_tube, "uniform", tokens), dict.fromkeys(triples, 1 / len(triples)))


@pytest.mark.parametrize("tokens", [2, 3, 6])
def test_uniform_draws_every_span_alike(tokens):
    spans = [(a, b) for a, b in itertools.combinations(range(tokens + 1), 2) if b - a < tokens]
    assert_as_likely(drawn(sample_patch, "uniform", tokens), dict.fromkeys(spans, 1 / len(spans)))


@pytest.mark.parametrize("tokens", [2, 3, 6])
def test_start_first_draws_the_start_and_then_the_end(tokens):
    """As the reference code does: the end is drawn again while the span is the whole."""
    probability = {}
    for a in range(tokens):
        ends = [b for b in range(a + 1, tokens + 1) if b - a < tokens]
        probability |= {(a, b): 1 / tokens / len(ends) for b in ends}
    assert_as_likely(drawn(sample_patch, "start_first", tokens), probability)


def test_too_little_content_gives_zeros():
    draw_NC = torch.full((3, 3), 0.999, dtype=torch.float64)
    for sampler in ("ends", "uniform"):
        assert sample_tube(draw_NC, torch.tensor([0, 1, 2]), sampler).tolist() == [[0, 0, 0]] * 3
    for sampler in ("start_first", "uniform"):
        assert sample_patch(draw_NC[:2], torch.tensor([0, 1]), sampler).tolist() == [[0, 0]] * 2
