"""Likelihoods of candidates that share the forward of image and question are those of forwards of their own."""

import pytest
import torch

from llm_jepa.evaluation.token_likelihood import candidate_log_probs, read_rows
from llm_jepa.vision.token_loss import answer_loss
from tests.vision.tiny_parts import LANGUAGE, picture, tiny_token_vlm

IMAGES = [picture("red"), picture("blue", (40, 30)), picture("white")]
QUESTIONS = ["what is it?", "how many lines with a number are there", "a"]
CANDIDATES = [["yes", "a vowel at least once", "."], ["no"], ["lines", "a number", "yes", "yes or no"]]


@pytest.mark.parametrize("language", LANGUAGE)
@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_shared_and_own_forwards_give_the_same_likelihoods(language, batch_size):
    model = tiny_token_vlm(language=language)
    (inputs,) = model.read_batches(IMAGES, QUESTIONS, batch_size=3)
    shared = candidate_log_probs(model, read_rows(model, inputs), CANDIDATES, batch_size)
    for image, question, texts, scores in zip(IMAGES, QUESTIONS, CANDIDATES, shared, strict=True):
        (own,) = model.read_batches([image], [question], batch_size=1)
        for text, score in zip(texts, scores, strict=True):
            ids, mask = model.processor.answers([text], 512)
            with torch.no_grad():
                loss_N, _ = answer_loss(model(**own, answer_ids=ids, answer_mask=mask).logits_NAV, ids, mask)
            assert score == pytest.approx(-float(loss_N), abs=1e-4)


def test_the_shared_state_stays_as_it_is():
    """So that it can be asked again."""
    model = tiny_token_vlm()
    (inputs,) = model.read_batches(IMAGES, QUESTIONS, batch_size=3)
    rows = read_rows(model, inputs)
    first = candidate_log_probs(model, rows, CANDIDATES, 3)
    assert candidate_log_probs(model, rows, CANDIDATES, 3) == first


def test_all_answers_together_have_the_probability_of_their_first_token():
    """Of answers of one token and the end, over the whole vocabulary: p(token) = sum over what may follow."""
    model = tiny_token_vlm(sees_images=False)
    (inputs,) = model.read_batches(None, QUESTIONS[:1], batch_size=1)
    rows = read_rows(model, inputs)
    ids_CA = torch.tensor([[7, i] for i in range(model.config.language_config.vocab_size)])
    with torch.no_grad():
        logits_CAV = model(
            **{name: value.expand(len(ids_CA), -1) for name, value in inputs.items()},
            answer_ids=ids_CA,
            answer_mask=torch.ones_like(ids_CA),
        ).logits_NAV
    total = torch.logsumexp(-answer_loss(logits_CAV, ids_CA, torch.ones_like(ids_CA))[0], 0)
    assert float(total) == pytest.approx(float(rows.logits_NV[0].log_softmax(-1)[7]), abs=1e-4)
