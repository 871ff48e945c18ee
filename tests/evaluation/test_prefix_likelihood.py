"""Candidates that share a prompt's cache have the log-probabilities of separate forwards."""

import pytest

from llm_jepa.evaluation.likelihood import choice_likelihoods
from llm_jepa.evaluation.prefix_likelihood import candidate_log_probs, prefix_length
from tests.architectures import tiny_model
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer

CANDIDATES = ["(dog)", ".*[0-9].*", "(.*[AEIOUaeiou].*)+", "a", "~(b)", "(dog)(.*)"]
CHAT = [{"role": "user", "content": PAIRS[0]["source"]}]


@pytest.mark.parametrize("prompt", [CHAT, "lines with a vowel "], ids=["chat", "text"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_they_are_those_of_a_forward_each(prompt, batch_size):
    model, tokenizer = tiny_llama(seed=1).eval(), tiny_tokenizer(None) if isinstance(prompt, str) else tiny_tokenizer()
    (expected,) = choice_likelihoods(model, tokenizer, [prompt], [CANDIDATES], 3)
    actual = candidate_log_probs(model, tokenizer, prompt, CANDIDATES, batch_size, {})
    assert actual == pytest.approx(expected.log_probs, abs=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "mistral", "gemma3", "bloom", "qwen3-moe", "gpt-neo", "falcon-h1", "mamba2"])
def test_they_are_so_with_other_architectures(name):
    """Positions of its own, windows shorter than the prompt, a mixture of experts, recurrent states."""
    model = tiny_model(name, vocab_size=320).to("cpu")
    (expected,) = choice_likelihoods(model, tiny_tokenizer(), [CHAT], [CANDIDATES], 3)
    actual = candidate_log_probs(model, tiny_tokenizer(), CHAT, CANDIDATES, 4, {})
    assert actual == pytest.approx(expected.log_probs, abs=1e-3)


def test_the_prompt_is_computed_once():
    model, lengths = tiny_llama().eval(), []
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    candidate_log_probs(model, tiny_tokenizer(), CHAT, CANDIDATES, 3, {})
    assert [rows for rows, _ in lengths] == [1, 3, 3]
    assert max(tokens for _, tokens in lengths[1:]) < lengths[0][1]


def test_the_shared_tokens_end_before_the_first_scored_one():
    assert prefix_length([([5, 6, 7, 8], 1), ([5, 6, 9], 2)]) == 1
    assert prefix_length([([5, 6, 7, 8], 1), ([5, 6, 7, 9], 1)]) == 3
    assert prefix_length([([5, 4], 1), ([6, 4], 1)]) == 0
