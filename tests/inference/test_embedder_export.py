"""An exported embedder gives the embeddings of `LatentEncoder`, in sentence-transformers and with its files alone."""

import json
from pathlib import Path

import pytest
import torch
from jinja2.exceptions import TemplateError

from llm_jepa.inference.embedder_export import PROBES, VIEWS, export_embedder, exported_tokenizer
from llm_jepa.inference.encoder import LatentEncoder
from llm_jepa.inference.tuned_model import load_tuned
from llm_jepa.models.latent_predictor import facts_of, read_facts, read_weights, write_latent_predictor
from tests.architectures import tiny_model
from tests.inference.latent_runs import encoder_of, new_trainer
from tests.inference.test_answer_command import OPTIONS, write_predictor
from tests.models.test_merging import save_adapter
from tests.tiny import PAIRS, save_tiny_model, tiny_llama, tiny_tokenizer

sentence_transformers = pytest.importorskip("sentence_transformers")

TEXTS = [pair["source"] for pair in PAIRS] + [*PROBES]
SETTINGS = [
    {},
    {"jepa_source_view": "prefix", "system_prompt": "Write a {{regex}} for \"A\\B\".\nBe brief, 'ß'."},
    {"predictor_position": "prepend", "jepa_direction": "target_to_source"},
    {"num_predictor_tokens": 0},
    {"jepa_source_view": "prefix", "chat_template": False},
]


def float32_encoder(run: Path) -> LatentEncoder:
    _, tokenizer, model = load_tuned(run, "float32")
    return LatentEncoder(model, tokenizer, read_facts(run), read_weights(run))


def exported(run: Path, output_dir: Path):
    export_embedder(run, output_dir, "float32")
    return sentence_transformers.SentenceTransformer(str(output_dir), device="cpu")


def assert_equal_embeddings(embedder, encoder: LatentEncoder) -> None:
    for view in VIEWS:
        embedding_ND = embedder.encode(TEXTS, prompt_name=view, batch_size=5, convert_to_tensor=True)
        expected_ND = getattr(encoder, f"encode_{view}s")(TEXTS)
        torch.testing.assert_close(embedding_ND, expected_ND, atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", SETTINGS, ids=lambda options: "-".join(options) or "default")
def test_the_embeddings_of_both_views_are_ours(tmp_path, options):
    trainer = new_trainer(tmp_path / "run", **options)
    trainer.save_model()
    embedder = exported(tmp_path / "run", tmp_path / "embedder")
    assert_equal_embeddings(embedder, encoder_of(trainer))
    types = [module["type"] for module in json.loads((tmp_path / "embedder" / "modules.json").read_text())]
    assert all(type.startswith("sentence_transformers.") for type in types)
    source_ND, target_ND = (embedder.encode(TEXTS, prompt_name=view, convert_to_tensor=True) for view in VIEWS)
    assert torch.equal(embedder.encode_query(TEXTS, convert_to_tensor=True), source_ND)
    assert torch.equal(embedder.encode_document(TEXTS, convert_to_tensor=True), target_ND)
    assert torch.equal(embedder.encode(TEXTS, convert_to_tensor=True), target_ND)


@pytest.mark.parametrize("adapted", ["all-linear", ["q_proj", "lm_head"], ["q_proj", "embed_tokens"]], ids=str)
def test_an_adapter_is_merged(tmp_path, adapted):
    """One of the head too, which is tied to the embedding table and leaves it as it is."""
    base = save_tiny_model(tmp_path / "base", tie_word_embeddings=True)
    adapter = save_adapter(tmp_path / "adapter", base, target_modules=adapted)
    write_predictor(adapter)
    assert_equal_embeddings(exported(adapter, tmp_path / "embedder"), float32_encoder(adapter))


@pytest.mark.parametrize("architecture", ["gemma3", "gpt2"])
def test_scaled_embeddings_and_learned_positions_do_not_matter(tmp_path, architecture):
    run, model = tmp_path / "run", tiny_model(architecture, vocab_size=320)
    model.save_pretrained(run)
    tiny_tokenizer().save_pretrained(run)
    facts = facts_of(model, tiny_tokenizer(), ("pair",), OPTIONS)
    write_latent_predictor(run, facts, {"vectors_KD": torch.randn(1, 32, generator=torch.Generator().manual_seed(0))})
    assert_equal_embeddings(exported(run, tmp_path / "embedder"), float32_encoder(run))


def test_a_long_text_keeps_its_predictor_tokens_and_another_prompt_is_refused(tmp_path):
    save_tiny_model(tmp_path / "run")
    write_predictor(tmp_path / "run")
    embedder = exported(tmp_path / "run", tmp_path / "embedder")
    ids_1S = embedder.preprocess(["word " * 600], prompt="source")["input_ids"]
    assert ids_1S.shape == (1, 512)
    assert embedder.tokenizer.convert_ids_to_tokens(ids_1S[0, -1].item()) == "<|pred_1|>"
    with pytest.raises(TemplateError, match="The prompt is q: ; it must be source or target"):
        embedder.encode(TEXTS, prompt="q: ")


def test_a_predictor_without_the_vectors_of_its_run_is_refused(tmp_path):
    """As that of an objective of one's own which predicts by a network."""
    save_tiny_model(tmp_path / "run")
    facts = facts_of(tiny_llama(), tiny_tokenizer(), ("Mine",), OPTIONS | {"num_predictor_tokens": 2})
    write_latent_predictor(tmp_path / "run", facts, {})
    with pytest.raises(ValueError, match="has 0 \\[PRED\\] vectors, not `num_predictor_tokens: 2`"):
        export_embedder(tmp_path / "run", tmp_path / "embedder", "float32")


def test_a_tokenizer_that_merges_across_the_end_of_a_view_is_refused(tmp_path):
    """Without special tokens the end of a `prefix` view shares a token with what follows."""
    encoder = encoder_of(new_trainer(tmp_path, jepa_source_view="prefix"))
    row_of = encoder.view_row
    encoder.view_row = lambda row: row_of(row) | {"source_ids": [*row_of(row)["source_ids"], 5]}
    with pytest.raises(ValueError, match=r"The tokens of the source view cannot be written by a template"):
        exported_tokenizer(encoder)
