"""Candidates that share a prompt's cache have the log-probabilities of separate forwards, their end included."""

import pytest
import torch

from llm_jepa.evaluation.likelihood import choice_likelihoods
from llm_jepa.evaluation.prefix_likelihood import candidate_log_probs, prefix_length
from tests.architectures import tiny_model
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer

CANDIDATES = ["(dog)", ".*[0-9].*", "(.*[AEIOUaeiou].*)+", "a", "~(b)", "(dog)(.*)"]
CHAT = [{"role": "user", "content": PAIRS[0]["source"]}]
END = "<|im_end|>"


def reference(model, tokenizer, prompt):
    """Those of `choice_likelihoods`, which scores no end of its own."""
    ended = [candidate + END for candidate in CANDIDATES]
    (likelihoods,) = choice_likelihoods(model, tokenizer, [prompt], [ended], 3)
    return likelihoods.log_probs


@pytest.mark.parametrize("prompt", [CHAT, "lines with a vowel "], ids=["chat", "text"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_they_are_those_of_a_forward_each(prompt, batch_size):
    model, tokenizer = tiny_llama(seed=1).eval(), tiny_tokenizer(None) if isinstance(prompt, str) else tiny_tokenizer()
    actual = candidate_log_probs(model, tokenizer, prompt, CANDIDATES, batch_size, {})
    assert actual == pytest.approx(reference(model, tokenizer, prompt), abs=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "mistral", "gemma3", "bloom", "qwen3-moe", "gpt-neo", "falcon-h1", "mamba2"])
def test_they_are_so_with_other_architectures(name):
    """Positions of its own, windows shorter than the prompt, a mixture of experts, recurrent states."""
    model = tiny_model(name, vocab_size=320).to("cpu")
    actual = candidate_log_probs(model, tiny_tokenizer(), CHAT, CANDIDATES, 4, {})
    assert actual == pytest.approx(reference(model, tiny_tokenizer(), CHAT), abs=1e-3)


@pytest.mark.parametrize("is_chat", [True, False])
def test_a_candidate_that_begins_with_another_can_be_the_likelier_one(is_chat):
    """Training on "1200" makes it likelier than "12". Each has minus the summed loss of training's tokens."""
    model, tokenizer = tiny_llama(), tiny_tokenizer() if is_chat else tiny_tokenizer(None)
    conversations, given = {}, tokenizer("how many:")["input_ids"]
    prompt = [{"role": "user", "content": "how many"}] if is_chat else "how many:"
    for answer in ("12", "1200"):
        ids = tokenizer(f"how many:{answer}{END}")["input_ids"]
        if is_chat:
            text = tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": answer}], tokenize=False)
            given, ids = (tokenizer(part)["input_ids"] for part in (text.partition(answer)[0].rstrip(), text.rstrip()))
        labels = [-100] * len(given) + ids[len(given) :]
        conversations[answer] = {"input_ids": torch.tensor([ids]), "labels": torch.tensor([labels])}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(10):
        model(**conversations["1200"]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    shorter, longer = candidate_log_probs(model, tokenizer, prompt, [*conversations], 2, {})
    for score, inputs in zip((shorter, longer), conversations.values(), strict=True):
        with torch.no_grad():
            loss = model(**inputs).loss.item()
        assert score == pytest.approx(-loss * (inputs["labels"] >= 0).sum().item(), abs=1e-3)
    assert longer > shorter


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
