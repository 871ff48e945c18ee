"""The logits, loss and gradient of the token VLM are those of a loop over rows; it generates what they say."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from llm_jepa.vision.token_loss import answer_loss
from llm_jepa.vision.token_model import TokenVLM, positions_of
from tests.vision.tiny_parts import LANGUAGE, VISION, picture, saved, tiny_token_vlm

IMAGES = [picture("red"), picture("blue", (40, 30)), [picture("red"), picture("white")]]
QUESTIONS = ["what is it?", "how many lines with a number are there", "a"]
ANSWERS = ["yes", "a vowel at least once", "."]


def slow_logits(model: TokenVLM, image, question: str, answer: str) -> torch.Tensor:
    """The logits of one answer's tokens, each by a forward of its own over all before it."""
    frames = image if isinstance(image, list) else [image]
    patches_PD = model.encode_pictures(model.processor.pixels([frames]))[0]
    visual = [model.projector.weight @ patch + model.projector.bias for patch in patches_PD]
    tokenizer = model.processor.question_tokenizer
    answer_ids = tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]
    embed = model.language_model.model.embed_tokens.weight
    before = [*visual, *(embed[i] for i in tokenizer(question)["input_ids"])]
    logits = []
    for i in [*answer_ids, tokenizer.eos_token_id]:
        logits.append(model.language_model(inputs_embeds=torch.stack(before)[None]).logits[0, -1])
        before.append(embed[i])
    return torch.stack(logits)


def batch_of(model: TokenVLM, rows: int = 3) -> dict[str, torch.Tensor]:
    (inputs,) = model.read_batches(IMAGES[:rows], QUESTIONS[:rows], batch_size=rows)
    ids, mask = model.processor.answers(ANSWERS[:rows], 512)
    return inputs | {"answer_ids": ids, "answer_mask": mask}


@pytest.mark.parametrize("language", LANGUAGE)
@pytest.mark.parametrize("vision", VISION)
def test_logits_are_those_of_a_loop_over_rows_and_tokens(vision, language):
    model = tiny_token_vlm(vision, language, num_frames=2)
    batch = batch_of(model)
    with torch.no_grad():
        logits_NAV = model(**batch).logits_NAV
        for logits_AV, mask_A, *row in zip(logits_NAV, batch["answer_mask"], IMAGES, QUESTIONS, ANSWERS, strict=True):
            torch.testing.assert_close(logits_AV[mask_A.bool()], slow_logits(model, *row), atol=1e-4, rtol=1e-4)


def test_loss_and_gradient_are_those_of_a_loop_over_rows():
    model = tiny_token_vlm(trains_vision_encoder=True)
    batch = batch_of(model, rows=2)
    loss_N, num_right = answer_loss(model(**batch).logits_NAV, batch["answer_ids"], batch["answer_mask"])
    loss_N.sum().backward()
    fast = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    slow, right = [], 0
    for image, question, answer in zip(IMAGES[:2], QUESTIONS[:2], ANSWERS[:2], strict=True):
        logits = slow_logits(model, image, question, answer)
        (ids,) = model.processor.answer_ids([answer])
        slow.append(sum(torch.logsumexp(row, 0) - row[i] for row, i in zip(logits, ids, strict=True)))
        right += sum(int(row.argmax()) == i for row, i in zip(logits, ids, strict=True))
    torch.testing.assert_close(loss_N, torch.stack(slow))
    assert num_right == right
    sum(slow).backward()
    expected = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    assert fast.keys() == expected.keys()
    assert {"projector.weight", "language_model.model.layers.1.mlp.up_proj.weight"} < fast.keys()
    assert {name for name in fast if "embed_tokens" in name or "lm_head" in name} == set()
    for name in fast:
        torch.testing.assert_close(fast[name], expected[name], atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("language", LANGUAGE)
def test_the_whole_language_model_without_a_picture_has_its_own_logits(language):
    model = tiny_token_vlm(language=language, layers=4, sees_images=False)
    whole = AutoModelForCausalLM.from_pretrained(saved(language)).eval()
    tokenizer = model.processor.question_tokenizer
    (inputs,) = model.read_batches(None, QUESTIONS, batch_size=3)
    ids_NA, mask_NA = model.processor.answers(ANSWERS, 512)
    with torch.no_grad():
        logits_NAV = model(**inputs, answer_ids=ids_NA, answer_mask=mask_NA).logits_NAV
        for question, ids_A, mask_A, logits_AV in zip(QUESTIONS, ids_NA, mask_NA, logits_NAV, strict=True):
            prompt, own = tokenizer(question)["input_ids"], ids_A[mask_A.bool()]
            expected = whole(torch.tensor([[*prompt, *own]])).logits[0, len(prompt) - 1 : -1]
            torch.testing.assert_close(logits_AV[mask_A.bool()], expected, atol=1e-4, rtol=1e-4)


def test_it_generates_the_likeliest_token_after_each_other():
    """Whatever the penalties in the language model's generation config."""
    model = tiny_token_vlm(num_frames=2, max_answer_tokens=4)
    model.language_model.generation_config.repetition_penalty = 5.0
    tokenizer = model.processor.question_tokenizer
    embed = model.language_model.model.embed_tokens.weight
    expected = []
    with torch.no_grad():
        for image, question in zip(IMAGES, QUESTIONS, strict=True):
            (inputs,) = model.read_batches([image], [question], batch_size=1)
            before_SD, _ = model.embed_inputs(**inputs)
            ids = []
            while len(ids) < 4 and tokenizer.eos_token_id not in ids:
                ids.append(int(model.language_model(inputs_embeds=before_SD).logits[0, -1].argmax()))
                before_SD = torch.cat([before_SD, embed[ids[-1]][None, None]], dim=1)
            expected.append(tokenizer.decode(ids, skip_special_tokens=True).strip())
    assert model.answer(IMAGES, QUESTIONS, batch_size=3) == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("language", LANGUAGE)
def test_a_saved_model_answers_as_before(language, tmp_path):
    model = tiny_token_vlm(language=language, num_frames=2)
    model.save_pretrained(tmp_path)
    again = TokenVLM.from_pretrained(tmp_path).eval()
    batch = batch_of(model)
    with torch.no_grad():
        assert torch.equal(model(**batch).logits_NAV, again(**batch).logits_NAV)
    assert model.answer(IMAGES, QUESTIONS) == again.answer(IMAGES, QUESTIONS)
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {name for name, value in again.named_parameters() if not value.requires_grad}
    assert {name.split(".")[-2] for name in frozen if name.startswith("language_model")} <= {"embed_tokens", "lm_head"}


def test_random_layers_keep_embeddings_and_head():
    drawn = TokenVLM.from_parts(saved("dinov2"), saved("llama"), 2, "random").language_model.state_dict()
    kept = tiny_token_vlm().language_model.state_dict()
    same = {name for name in kept if torch.equal(drawn[name], kept[name])}
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= same
    assert not any("proj" in name for name in same)


def test_padding_does_not_count_as_a_position():
    assert positions_of(torch.tensor([[1, 1, 0, 1, 1], [0, 0, 1, 1, 0]])).tolist() == [
        [0, 1, 1, 2, 3],
        [0, 0, 0, 1, 1],
    ]


def test_a_head_that_is_tied_is_written_once(tmp_path):
    """Also of weights that were gathered one by one, as FSDP does; a head of its own stays."""
    for language in LANGUAGE:
        model = tiny_token_vlm(language=language)
        gathered = {name: one.clone() for name, one in model.state_dict().items()}
        model.save_pretrained(tmp_path / language, state_dict=gathered)
        names = load_file(tmp_path / language / "model.safetensors").keys()
        is_tied = model.config.language_config.tie_word_embeddings
        assert ("language_model.lm_head.weight" in names) == (not is_tied)
        again = TokenVLM.from_pretrained(tmp_path / language).state_dict()
        assert all(torch.equal(again[name], one) for name, one in gathered.items())
