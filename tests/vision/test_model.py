"""Predictions and targets are those of a loop over rows; what is frozen stays as it is; what is saved comes back."""

import pytest
import torch
from torch import nn

from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.picture_encoder import load_picture_encoder
from llm_jepa.vision.predictor import load_predictor
from llm_jepa.vision.text_encoder import load_text_encoder
from tests.vision.tiny_parts import LANGUAGE, SENTENCE, VISION, picture, saved, tiny_model

IMAGES = [picture("red"), picture("blue", (40, 30)), [picture("red"), picture("white")]]
QUESTIONS = ["what is it?", "how many lines with a number are there", "a"]
ANSWERS = ["yes", "a vowel at least once", "."]


def slow_prediction(model: VLJEPAModel, image, question: str) -> torch.Tensor:
    """The formula for one row alone, without padding."""
    frames = image if isinstance(image, list) else [image]
    patches_PD = model.encode_pictures(model.processor.pixels([frames]))[0]
    ids, mask = model.processor.questions([question], 512)
    assert mask.all()
    visual = [model.projector.weight @ patch + model.projector.bias for patch in patches_PD]
    words = [model.predictor.embed_tokens.weight[i] for i in ids[0]]
    hidden_SD = model.predictor(inputs_embeds=torch.stack(visual + words)[None]).last_hidden_state[0]
    mean_D = sum(hidden_SD) / len(hidden_SD)
    return model.prediction_head.weight @ mean_D + model.prediction_head.bias


def slow_target(model: VLJEPAModel, answer: str) -> torch.Tensor:
    ids, _ = model.processor.answers([answer], 512)
    hidden_SD = model.text_encoder(input_ids=ids).last_hidden_state[0]
    pooled_D = hidden_SD[0] if model.config.text_pooling == "cls" else sum(hidden_SD) / len(hidden_SD)
    return model.target_head.weight @ pooled_D + model.target_head.bias


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("language", "text"), zip(LANGUAGE, SENTENCE, strict=True))
def test_predictions_and_targets_are_those_of_a_loop_over_rows(vision, language, text):
    model = tiny_model(vision, language, text, num_frames=2)
    with torch.no_grad():
        predictions = torch.stack([slow_prediction(model, *row) for row in zip(IMAGES, QUESTIONS, strict=True)])
        targets = torch.stack([slow_target(model, answer) for answer in ANSWERS])
    torch.testing.assert_close(model.predict(IMAGES, QUESTIONS, batch_size=2), predictions, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.encode_text(ANSWERS, batch_size=2), targets, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(predictions[0], predictions[1], atol=1e-3)


def test_white_space_around_an_answer_does_not_count():
    model = tiny_model()
    assert torch.equal(model.encode_text([f" {answer}\n" for answer in ANSWERS]), model.encode_text(ANSWERS))


def test_cls_pooling_takes_the_first_token():
    model = tiny_model(text_pooling="cls")
    with torch.no_grad():
        targets = torch.stack([slow_target(model, answer) for answer in ANSWERS])
    torch.testing.assert_close(model.encode_text(ANSWERS), targets)


def test_the_gradient_is_that_of_a_loop_over_rows():
    model = tiny_model(trains_vision_encoder=True)
    questions = model.processor.questions(QUESTIONS[:2], 512)
    pixels = model.processor.pixels([[image] for image in IMAGES[:2]])
    model(pixels, None, *questions).prediction_NE.square().sum().backward()
    fast = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    sum(slow_prediction(model, *row).square().sum() for row in zip(IMAGES[:2], QUESTIONS[:2], strict=True)).backward()
    slow = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert fast.keys() == slow.keys()
    assert {"projector.weight", "prediction_head.bias", "predictor.layers.1.mlp.up_proj.weight"} < fast.keys()
    for name in fast:
        torch.testing.assert_close(fast[name], slow[name], atol=1e-4, rtol=1e-3, msg=name)


def test_features_of_a_cache_stand_for_the_pixels():
    model = tiny_model()
    pixels, questions = model.processor.pixels([[IMAGES[0]]]), model.processor.questions(QUESTIONS[:1], 512)
    with torch.no_grad():
        by_pixels = model(pixels, None, *questions).prediction_NE
        by_patches = model(None, model.encode_pictures(pixels), *questions).prediction_NE
    assert torch.equal(by_pixels, by_patches)


@pytest.mark.parametrize("vision", VISION)
def test_a_saved_model_answers_as_before_with_every_part_inside(vision, tmp_path):
    model = tiny_model(vision, num_frames=2)
    model.save_pretrained(tmp_path)
    again = VLJEPAModel.from_pretrained(tmp_path)
    assert torch.equal(model.predict(IMAGES, QUESTIONS), again.predict(IMAGES, QUESTIONS))
    assert torch.equal(model.encode_text(ANSWERS), again.encode_text(ANSWERS))
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, parameter in again.named_parameters() if not parameter.requires_grad}
    assert again.predictor.config.is_causal is False


def test_parts_keep_their_pretrained_weights():
    model = tiny_model("resnet")
    parts = {
        "vision_encoder": load_picture_encoder(saved("resnet")),
        "predictor": load_predictor(saved("llama"), 2, "pretrained"),
        "text_encoder": load_text_encoder(saved("bert")),
    }
    for name, part in parts.items():
        mine, its = getattr(model, name).state_dict(), part.state_dict()
        assert mine.keys() == its.keys()
        assert all(torch.equal(mine[key], its[key]) for key in its)


def test_what_is_frozen_has_no_gradient_and_stays_in_evaluation():
    """ResNet's batch statistics and BERT's dropout, also when the whole model is set to training."""
    model = tiny_model("resnet", trains_text_encoder=False).train()
    assert model.predictor.training
    for part in (model.vision_encoder, model.text_encoder):
        assert not any(module.training for module in part.modules())
        assert not any(parameter.requires_grad for parameter in part.parameters())
    before = {name: value.clone() for name, value in model.vision_encoder.named_buffers()}
    assert any("running_mean" in name for name in before)
    model(model.processor.pixels([[picture("red")], [picture("green")]])).prediction_NE.sum().backward()
    assert all(torch.equal(before[name], value) for name, value in model.vision_encoder.named_buffers())


def test_a_tuned_encoder_is_set_to_training_and_gets_gradients():
    model = tiny_model("resnet", trains_vision_encoder=True).train()
    assert all(module.training for module in model.vision_encoder.modules())
    model(model.processor.pixels([[picture("red")], [picture("green")]])).prediction_NE.sum().backward()
    assert all(parameter.grad is not None for parameter in model.vision_encoder.parameters())


@pytest.mark.parametrize(
    ("options", "frozen"),
    [
        ({}, {"vision_encoder", "embed_tokens", "log_temperature"}),
        ({"trains_temperature": True}, {"vision_encoder", "embed_tokens"}),
        ({"trains_text_encoder": False, "trains_target_head": False},
         {"vision_encoder", "embed_tokens", "log_temperature", "text_encoder", "target_head"}),
        ({"sees_images": False}, {"vision_encoder", "embed_tokens", "log_temperature", "projector"}),
    ],
)  # fmt: skip
def test_the_config_says_what_is_trained(options, frozen):
    for name, parameter in tiny_model(**options).named_parameters():
        assert parameter.requires_grad is frozen.isdisjoint(name.split(".")), name


def test_a_blind_model_reads_the_question_alone():
    model = tiny_model(sees_images=False)
    embeddings = model.predict(None, QUESTIONS)
    ids, mask = model.processor.questions(QUESTIONS, 512)
    assert torch.equal(embeddings, model(torch.randn(3, 1, 3, 16, 16), None, ids, mask).prediction_NE)
    with pytest.raises(ValueError, match="takes no images: it was trained on questions alone"):
        model.predict(IMAGES, QUESTIONS)


def test_without_layers_it_is_a_linear_probe(tmp_path):
    """The mean of projected patches and embeddings goes to the head; nothing else is trained on this side."""
    model = tiny_model(layers=0)
    expected = []
    with torch.no_grad():
        for image, question in zip(IMAGES[:2], QUESTIONS[:2], strict=True):
            patches_PD = model.encode_pictures(model.processor.pixels([[image]]))[0]
            ids = model.processor.question_ids([question])[0]
            tokens = [*model.projector(patches_PD), *(model.predictor.embed_tokens.weight[i] for i in ids)]
            expected.append(model.prediction_head(sum(tokens) / len(tokens)))
    predictions = model.predict(IMAGES[:2], QUESTIONS[:2])
    torch.testing.assert_close(predictions, torch.stack(expected), atol=1e-5, rtol=1e-4)
    trained = {name.split(".")[0] for name, value in model.named_parameters() if value.requires_grad}
    assert trained == {"projector", "prediction_head", "target_head", "text_encoder"}
    model.save_pretrained(tmp_path)
    assert torch.equal(VLJEPAModel.from_pretrained(tmp_path).predict(IMAGES[:2], QUESTIONS[:2]), predictions)


def test_a_picture_needs_no_question():
    model = tiny_model()
    assert model.predict(IMAGES).shape == (3, 12)


def test_candidates_are_ranked_by_their_cosine():
    model = tiny_model()
    candidates = [["yes", "no", "a dog"], ["red", "blue"], ["no", "no.", "yes", "maybe"]]
    predictions = model.predict(IMAGES, QUESTIONS)
    for prediction, row, hits in zip(predictions, candidates, model.rank(IMAGES, QUESTIONS, candidates), strict=True):
        cosine = {text: nn.functional.cosine_similarity(prediction, model.encode_text([text])[0], 0) for text in row}
        assert [hit.answer for hit in hits] == sorted(row, key=lambda text: -cosine[text])
        assert [hit.score for hit in hits] == pytest.approx([float(cosine[hit.answer]) for hit in hits], abs=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.predict(None, QUESTIONS), "The model takes images. Give them"),
        (lambda model: model.predict(IMAGES, ["one"]), "3 images and 1 questions; give one of each a row"),
        (lambda model: model.predict([], []), "no rows to predict"),
        (lambda model: model.encode_text([]), "no texts to encode"),
        (lambda model: model.rank(IMAGES, QUESTIONS, [["a"]]), "3 rows and 1 lists of candidates"),
        (lambda model: model.predict(["no/such.png"]), r"image 0: picture `no/such.png` is missing"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny_model())
