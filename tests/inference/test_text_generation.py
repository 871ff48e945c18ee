"""A trained run drafts from its own files, and its plain, drafted and looked-up texts are the same."""

import pytest
import torch
from transformers import GenerationConfig

from llm_jepa.evaluation.generation import generate_completions
from llm_jepa.evaluation.generation_latency import measure_generation
from llm_jepa.inference.draft_counts import DraftCounts
from llm_jepa.inference.draft_length import FixedLength
from llm_jepa.inference.drafting import Drafter
from llm_jepa.inference.text_generation import TextGenerator
from llm_jepa.models.latent_predictor import DRAFT_TOKENS, read_weights
from tests.architectures import tiny_model
from tests.inference.drafters import prompts, trained_dynamics
from tests.inference.latent_runs import new_trainer
from tests.tiny import PAIRS, tiny_tokenizer

NEXT_LATENT = {"jepa_objective": "next_latent", "num_predictor_tokens": 1}


@pytest.fixture(scope="module", params=["mlp", "decoder_layer"])
def run(request, tmp_path_factory):
    """A trainer after two steps, and the directory that it has saved to."""
    directory = tmp_path_factory.mktemp("run")
    trainer = new_trainer(directory, latent_predictor=request.param, **NEXT_LATENT)
    trainer.train()
    trainer.save_model(str(directory))
    return trainer.model, directory


def test_the_three_methods_give_the_same_text_and_count_its_forwards(run):
    model, directory = run
    tokenizer = tiny_tokenizer()
    drafter = Drafter.from_predictor(directory, model, tokenizer, length=FixedLength(3))
    generators = [
        TextGenerator(model, tokenizer, "plain", 12),
        TextGenerator(model, tokenizer, "prompt_lookup", 12),
        TextGenerator(model, tokenizer, "draft", 12, drafter),
    ]
    for pair in PAIRS[:2]:
        ids = tokenizer(pair["source"])["input_ids"]
        plain, looked_up, drafted = (generator.generate(ids) for generator in generators)
        assert plain.ids == looked_up.ids == drafted.ids
        assert plain.text == drafted.text
        assert plain.forwards == len(plain.ids)
    assert drafter.counts.tokens == generators[2].counts.tokens == generators[0].counts.tokens
    assert drafter.counts.forwards == generators[2].counts.forwards


def test_drafts_are_counted_by_text_so_that_a_warm_up_has_no_part_in_the_acceptance():
    """The first prompt, which is answered once before, is the one whose text the drafter has learnt."""
    model, tokenizer = tiny_model("llama", vocab_size=320), tiny_tokenizer()
    drafter = Drafter(model, trained_dynamics(model), None, FixedLength(3))
    generators = {
        "plain": TextGenerator(model, tokenizer, "plain", 12),
        "draft": TextGenerator(model, tokenizer, "draft", 12, drafter),
    }
    drafted = measure_generation(generators, [ids_1S[0].tolist() for ids_1S in prompts(number=3)])["draft"]
    assert [one.drafts.forwards for one in drafted.texts] == [one.forwards for one in drafted.texts]
    warm_up, *counted = [drafted.texts[i].drafts for i in (0, 0, 1, 2)]
    assert DraftCounts.total([warm_up, *counted]) == drafter.counts
    assert drafted.report()["acceptance"] == DraftCounts.total(counted).acceptance != drafter.counts.acceptance


def test_counts_are_added_position_by_position():
    """Of 4 and 2 drafts' first positions 3 and 0 were accepted; only the first text has a second position."""
    total = DraftCounts.total([DraftCounts(5, 8, [4, 3], [3, 0]), DraftCounts(3, 3, [2], [0]), DraftCounts(1, 1)])
    assert total == DraftCounts(9, 12, [6, 3], [3, 0])
    assert total.acceptance == [0.5, 0.0]
    assert DraftCounts.total([]) == DraftCounts()


def test_no_method_takes_the_penalties_of_the_models_own_generation_config_and_eval_takes_none(run, monkeypatch):
    model, directory = run
    own = GenerationConfig(repetition_penalty=1.3, no_repeat_ngram_size=2, eos_token_id=2)
    monkeypatch.setattr(model, "generation_config", own)
    tokenizer, sources = tiny_tokenizer(), [pair["source"] for pair in PAIRS[:3]]
    of_eval = [one.text for one in generate_completions(model, tokenizer, sources, 12, 2)]
    prompt_ids = [tokenizer(source)["input_ids"] for source in sources]
    for method in ("plain", "prompt_lookup", "draft"):
        drafter = Drafter.from_predictor(directory, model, tokenizer) if method == "draft" else None
        generator = TextGenerator(model, tokenizer, method, 12, drafter)
        assert [generator.generate(ids).text for ids in prompt_ids] == of_eval, method
    assert model.generation_config is own
    penalised = [model.generate(torch.tensor([ids]), max_new_tokens=12)[0, len(ids) :] for ids in prompt_ids]
    assert tokenizer.batch_decode(penalised, skip_special_tokens=True) != of_eval  # else the test shows nothing


def test_the_draft_vocabulary_of_a_run_is_that_of_its_targets(run):
    _, directory = run
    tokenizer = tiny_tokenizer()
    targets = [tokenizer(pair["target"])["input_ids"] for pair in PAIRS]
    kept = read_weights(directory)[DRAFT_TOKENS].tolist()
    assert kept[0] == tokenizer.eos_token_id
    assert {token for ids in targets for token in ids} <= {*kept}
    assert len(kept) < len(tokenizer)
    drafter = Drafter.from_predictor(directory, run[0], tokenizer, draft_vocabulary=7)
    assert drafter.candidates.head.token_ids_V.tolist() == kept[:7]


@pytest.mark.parametrize("name", ["mamba2", "falcon-h1"])
def test_tokens_are_not_looked_up_for_a_model_whose_cache_cannot_be_cropped(name):
    model = tiny_model(name, vocab_size=320)
    with pytest.raises(ValueError, match=f"The cache of a {model.config.model_type} model cannot be cropped"):
        TextGenerator(model, tiny_tokenizer(), "prompt_lookup", 4)
    assert len(TextGenerator(model, tiny_tokenizer(), "plain", 2).generate([5, 6]).ids) <= 2


def test_a_prompt_that_is_empty_or_too_long_is_refused(run):
    generator = TextGenerator(run[0], tiny_tokenizer(), "plain", 12)
    with pytest.raises(ValueError, match="has no tokens"):
        generator.generate([])
    with pytest.raises(ValueError, match="has 501 tokens; with 12 new ones it exceeds the 512 positions"):
        generator.generate([5] * 501)


def test_a_predictor_of_pairs_drafts_nothing(tmp_path):
    trainer = new_trainer(tmp_path)
    trainer.save_model(str(tmp_path))
    with pytest.raises(ValueError, match="is of pair, which drafts no tokens"):
        Drafter.from_predictor(tmp_path, trainer.model, tiny_tokenizer())
