"""The embeddings of texts are those that training computes for the same rows, in every layout."""

import dataclasses

import pytest
import torch

from llm_jepa.inference.encoder import LatentEncoder
from tests.inference.latent_runs import embeddings_of_training, encoder_of, facts_of_trainer, new_trainer
from tests.tiny import PAIRS

SOURCES, TARGETS = [pair["source"] for pair in PAIRS], [pair["target"] for pair in PAIRS]
SETTINGS = [
    {},
    {"jepa_source_view": "prefix", "system_prompt": "Write a regex."},
    {"predictor_position": "prepend", "jepa_target": "stop_gradient"},
    {"num_predictor_tokens": 0, "jepa_readout": "mean"},
    {"target_layer": 0.5, "jepa_direction": "target_to_source"},
    {"jepa_source_view": "prefix", "chat_template": False},
]


@pytest.mark.parametrize("layout", ["rows", "packed"])
@pytest.mark.parametrize("options", SETTINGS, ids=lambda options: "-".join(map(str, options.values())) or "default")
def test_texts_have_the_embeddings_of_training(tmp_path, options, layout):
    trainer = new_trainer(tmp_path, jepa_layout=layout, **options)
    prediction_ND, target_ND = embeddings_of_training(trainer)
    encoder = encoder_of(trainer)
    source_ND, answer_ND = encoder.encode_sources(SOURCES, batch_size=3), encoder.encode_targets(TARGETS, batch_size=3)
    if options.get("jepa_direction") == "target_to_source":
        prediction_ND, target_ND = target_ND, prediction_ND
    torch.testing.assert_close(source_ND, prediction_ND, atol=1e-5, rtol=0)
    torch.testing.assert_close(answer_ND, target_ND, atol=1e-5, rtol=0)
    assert not torch.allclose(source_ND, answer_ND, atol=1e-2)


@pytest.mark.parametrize("source_view", ["alone", "prefix"])
@pytest.mark.parametrize("chat_template", [None, False])
def test_texts_of_a_run_on_plain_strings_have_no_chat_template(tmp_path, source_view, chat_template):
    """Whether or not the tokenizer has one. The completion begins with the space that ends the prompt's last word."""
    rows = [{"prompt": source, "completion": f" {target}"} for source, target in zip(SOURCES, TARGETS, strict=True)]
    options = {"source_column": None, "target_column": None, "system_prompt": "Write a regex."}
    trainer = new_trainer(tmp_path, chat_template, rows, jepa_source_view=source_view, **options)
    prediction_ND, target_ND = embeddings_of_training(trainer)
    encoder = encoder_of(trainer)
    torch.testing.assert_close(encoder.encode_sources(SOURCES), prediction_ND, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.encode_targets(TARGETS), target_ND, atol=1e-5, rtol=0)


def test_a_batch_is_one_forward_and_the_longest_texts_share_one(tmp_path):
    trainer = new_trainer(tmp_path)
    encoder, lengths = encoder_of(trainer), []
    trainer.model.model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    encoder.encode_sources(SOURCES[:1])
    assert len(lengths) == 1
    encoder.encode_sources(SOURCES, batch_size=4)
    assert [rows for rows, _ in lengths[1:]] == [4, 4]
    assert lengths[1][1] > lengths[2][1]


@pytest.mark.parametrize(("texts", "message"), [
    (["a", " "], "Text 1 is empty. Leave it out."),
    (["word " * 600], r"Text 0 has \d+ tokens, more than the 512 positions of the model. Shorten it."),
])  # fmt: skip
def test_texts_that_cannot_be_encoded_are_refused(tmp_path, texts, message):
    encoder = encoder_of(new_trainer(tmp_path))
    with pytest.raises(ValueError, match=message):
        encoder.encode_sources(texts)


def test_a_text_whose_embedding_is_not_finite_is_named(tmp_path):
    """The embedding of one token is; text 1 alone has it."""
    trainer = new_trainer(tmp_path)
    (token,) = trainer.processing_class("b", add_special_tokens=False)["input_ids"]
    trainer.model.get_input_embeddings().weight.data[token] = float("nan")
    encoder = encoder_of(trainer)
    assert encoder.encode_targets(["a", "c"]).isfinite().all()
    with pytest.raises(ValueError, match="The embedding of text 1 has NaN or infinity in it"):
        encoder.encode_targets(["a", "b", "c"])


@pytest.mark.parametrize(("change", "message"), [
    ({"width": 64}, "for a model of width 64; this one has 32"),
    ({"tokenizer": "0"}, "another tokenizer or chat template"),
    ({"options": {}, "objectives": ("next_latent",)}, "of next_latent, which encodes no views"),
])  # fmt: skip
def test_the_predictor_of_another_model_is_refused(tmp_path, change, message):
    trainer = new_trainer(tmp_path)
    facts = dataclasses.replace(facts_of_trainer(trainer), **change)
    with pytest.raises(ValueError, match=message):
        LatentEncoder(trainer.model, trainer.processing_class, facts, {})
