"""Log-probabilities of choices, against one explicit forward per choice."""

import pytest
import torch

from llm_jepa.evaluation.likelihood import choice_likelihoods
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer

CHATS = [[{"role": "user", "content": pair["source"]}] for pair in PAIRS[:4]]
CHOICES = [["(dog)", ".*[0-9].*"], ["a", "(.*[AEIOUaeiou].*)+", "~(b)"], ["x"], ["[A-Z]", "(ring)&([a-z])"]]


def by_hand(model, rendered: str, choice: str) -> float:
    """log p(choice | rendered), token by token, the newline at the end of the prompt scored with the choice."""
    tokenizer = tiny_tokenizer()
    ids = tokenizer(rendered + choice)["input_ids"]
    first = len(tokenizer(rendered.rstrip())["input_ids"])
    with torch.no_grad():
        log_probs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(log_probs[position - 1, ids[position]].item() for position in range(first, len(ids)))


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_a_batch_scores_every_choice_as_a_forward_of_its_own(batch_size):
    model = tiny_llama(seed=1).train()
    done: dict[int, float] = {}
    scored = choice_likelihoods(model, tiny_tokenizer(), CHATS, CHOICES, batch_size, progress=done.update)
    assert [row.choices for row in scored] == CHOICES
    for chat, row in zip(CHATS, scored, strict=True):
        rendered = tiny_tokenizer().apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        expected = [by_hand(model.eval(), rendered, choice) for choice in row.choices]
        assert row.log_probs == pytest.approx(expected, abs=1e-4)
    assert [done[i] for i in range(8)] == [log_prob for row in scored for log_prob in row.log_probs]
    newline_and_x = len(tiny_tokenizer()("\nx")["input_ids"])
    assert scored[2].num_tokens == [newline_and_x]


def test_finished_choices_are_taken_as_they_are_and_their_batch_is_not_computed_again():
    """The batches of three hold the choices in the order of their lengths; the second one is known in part."""
    model, batches = tiny_llama(seed=1), []
    whole = choice_likelihoods(model, tiny_tokenizer(), CHATS, CHOICES, 3, progress=batches.append)
    known = dict.fromkeys(batches[0], -99.0) | {next(iter(batches[1])): -99.0}
    again: list = []
    scored = choice_likelihoods(model, tiny_tokenizer(), CHATS, CHOICES, 3, progress=again.append, finished=known)
    assert again == batches[1:]
    expected = [log_prob for row in whole for log_prob in row.log_probs]
    actual = [log_prob for row in scored for log_prob in row.log_probs]
    assert actual == [-99.0 if i in batches[0] else log_prob for i, log_prob in enumerate(expected)]


def test_a_plain_prompt_is_scored_without_a_template():
    model = tiny_llama(seed=1).eval()
    (row,) = choice_likelihoods(model, tiny_tokenizer(None), ["lines with a vowel "], [["dog", "ring"]], 2)
    assert row.log_probs == pytest.approx([by_hand(model, "lines with a vowel ", text) for text in ("dog", "ring")])


def test_the_model_is_left_as_it_was_found():
    model = tiny_llama().train()
    choice_likelihoods(model, tiny_tokenizer(), CHATS[:1], [["a"]], 1)
    assert model.training


@pytest.mark.parametrize(("prompt", "choice"), [("", "a"), ("a", ""), ("a", "  ")])
def test_an_empty_prompt_or_choice_is_refused(prompt, choice):
    with pytest.raises(ValueError, match="Neither may be empty"):
        choice_likelihoods(tiny_llama(), tiny_tokenizer(None), [prompt], [[choice]], 1)


class AppendsStop:
    """The tiny tokenizer, which puts <|im_start|> before a text and <|im_end|> after it."""

    def __init__(self):
        self.eos_token, self.eos_token_id = tiny_tokenizer(None).eos_token, tiny_tokenizer(None).eos_token_id

    def __call__(self, text: str) -> dict:
        return {"input_ids": [1, *tiny_tokenizer(None)(text)["input_ids"], self.eos_token_id]}


def test_a_stop_token_that_the_tokenizer_appends_is_not_scored():
    model = tiny_llama(seed=1).eval()
    (row,) = choice_likelihoods(model, AppendsStop(), ["lines with"], [[" dog"]], 1)
    ids = tiny_tokenizer(None)("lines with dog")["input_ids"]
    first = len(tiny_tokenizer(None)("lines with")["input_ids"])
    with torch.no_grad():
        log_probs = model(torch.tensor([[1, *ids]])).logits[0].log_softmax(-1)
    expected = sum(log_probs[position, ids[position]].item() for position in range(first, len(ids)))
    assert row.log_probs == pytest.approx([expected], abs=1e-5)
    assert row.num_tokens == [len(ids) - first]


def test_a_choice_beyond_the_positions_of_the_model_is_refused():
    with pytest.raises(ValueError, match="more than the 8 positions of the model"):
        choice_likelihoods(tiny_llama(max_position_embeddings=8), tiny_tokenizer(), CHATS[:1], [["dog"]], 1)
