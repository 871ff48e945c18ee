"""What a card says of the base and of the objective."""

import dataclasses

import pytest

from llm_jepa.hub.card_editing import read_metadata, with_metadata
from llm_jepa.hub.card_facts import CardFacts
from llm_jepa.hub.card_metadata import card_metadata
from llm_jepa.hub.card_section import _are_comparable, card_section
from llm_jepa.hub.sources import Source, Sources
from llm_jepa.models.latent_predictor import PredictorFacts
from llm_jepa.runs.record import RunRecord
from tests.hub.hub_server import BASE
from tests.models.test_latent_predictor import facts


def facts_of(predictor: PredictorFacts | None = None, **settings) -> CardFacts:
    nobody = Source(None, None)
    sources = Sources(Source(BASE, BASE), None, nobody, nobody, nobody)
    environment = {"base_origin": "From a package."}
    record = RunRecord(settings={"seed": 7} | settings, state=None, environment=environment, scores={})
    return CardFacts("team/model", "model", record, False, sources, None, "0", predictor)


def card_of(predictor: PredictorFacts | None = None, **settings) -> str:
    return card_section(facts_of(predictor, **settings))


def test_the_card_of_random_weights_names_no_base_model():
    """Also where an earlier push named one; a fine-tuned model has one."""
    card = card_of(from_scratch=True)
    assert f"with the architecture of [{BASE}](/{BASE}), trained from random weights with the LLM-JEPA" in card
    assert "fine-tuned" not in card
    assert "From a package." not in card
    assert "| `from_scratch` | `true` |" in card
    there = {"base_model": BASE, "base_model_relation": "finetune"}
    before = with_metadata("# Model", there)
    assert read_metadata(with_metadata(before, card_metadata(facts_of(), {}))).items() >= there.items()
    scratch = read_metadata(with_metadata(before, card_metadata(facts_of(from_scratch=True), {})))
    assert not there.keys() & scratch.keys()
    tuned = card_of(from_scratch=False)
    assert f"made from [{BASE}](/{BASE}), fine-tuned with the LLM-JEPA" in tuned
    assert "From a package." in tuned


@pytest.mark.parametrize(
    ("settings", "is_control"),
    [({"shuffle_pairs": True}, True), ({}, False), ({"shuffle_pairs": True, "jepa_weight": 0.0}, False)],
)
def test_a_model_trained_on_wrong_pairs_says_so(settings, is_control):
    """In the LM-only arm the option stands idle."""
    assert ("a control on wrong pairs" in card_of(**settings)) == is_control
    assert ("| `shuffle_pairs` | `true` |" in card_of(**settings)) == is_control


@pytest.mark.parametrize(
    ("extract", "is_shown"), [({}, True), ({"extract": "none"}, True), ({"extract": "fence"}, False)]
)
def test_a_base_scored_by_other_texts_stands_in_no_table(extract, is_shown):
    """An older file does not say `extract: none`."""
    assert _are_comparable({"task": "regex"} | extract, {"task": "regex"}) is is_shown
    assert _are_comparable({"task": "regex"}, {"task": "regex"} | extract) is is_shown


def test_several_objectives_are_all_named_with_their_weights():
    own = "/home/mira/secret-project/margin.py:MarginObjective"
    card = card_of(jepa_objective=["tube", own], objective_weights=[1.0, 0.5], jepa_loss="l2")
    assert "next-token prediction, and Semantic Tube Prediction ([arXiv" in card
    assert "; a term of the authors' own, named below. `jepa_loss` is their sum, each times its weight" in card
    assert "| `jepa_objective` | `tube`, `margin.py:MarginObjective` |" in card
    assert "| `objective_weights` | `1.0`, `0.5` |" in card
    assert "| `jepa_loss` | `l2` |" in card
    assert "mira" not in card
    plain = card_of(jepa_objective=["tube", "patch"])
    assert "`jepa_target`" not in plain
    assert "`jepa_target` | `online`" in card_of(jepa_objective=["tube", "pair"])


def test_a_card_shows_the_options_that_have_an_effect_and_no_others():
    """A separator is one cell of one line."""
    card = card_of(jepa_objective=["step", "next_latent"], step_separator="\n|;", rollout_steps=2)
    assert r"| `step_separator` | `\n\|;` |" in card
    assert "| `rollout_steps` | `2` |" in card
    assert "`num_future_tokens`" not in card
    assert "`step_separator`" not in card_of()


def test_a_card_says_what_a_predictor_is_for():
    drafter = dataclasses.replace(facts(), objectives=("next_latent",), options={})
    for predictor, ranks in ((facts(), True), (drafter, False)):
        text = card_of(predictor, seed=1)
        assert f"is what `{predictor.objectives[0]}` trained beside the model" in text
        assert ("llm-jepa answer model --index" in text) == ranks
    assert "latent_predictor" not in card_of()


def test_an_objective_of_ones_own_is_named_without_its_folder():
    """Its file need not be where the card is made."""
    card = card_of(jepa_objective="/home/mira/secret-project/margin.py:MarginObjective")
    assert "a term of the authors' own" in card
    assert "| `jepa_objective` | `margin.py:MarginObjective` |" in card
    assert "mira" not in card
