"""A latent predictor is written whole, read back, and known from a damaged one or another's."""

import json

import pytest
import torch

from llm_jepa import JEPAConfig
from llm_jepa.models.latent_predictor import (
    FACTS_FILE,
    FOLDER,
    WEIGHTS_FILE,
    PredictorFacts,
    check_fits,
    facts_of,
    predictor_digest,
    read_facts,
    read_weights,
    write_latent_predictor,
)
from llm_jepa.settings.objectives import VIEW_OPTIONS
from tests.tiny import tiny_llama, tiny_tokenizer

OPTIONS = {name: JEPAConfig.__dataclass_fields__[name].default for name in VIEW_OPTIONS}
WEIGHTS = {"vectors_KD": torch.arange(6.0).reshape(2, 3)}


def facts() -> PredictorFacts:
    return facts_of(tiny_llama(), tiny_tokenizer(), ("pair",), OPTIONS)


def test_what_is_written_is_read_back(tmp_path):
    write_latent_predictor(tmp_path, facts(), WEIGHTS)
    assert read_facts(tmp_path) == facts()
    assert torch.equal(read_weights(tmp_path)["vectors_KD"], WEIGHTS["vectors_KD"])
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == [FACTS_FILE, WEIGHTS_FILE]
    content = json.loads((tmp_path / FOLDER / FACTS_FILE).read_text())
    assert (content["objectives"], content["width"]) == (["pair"], 32)
    check_fits(read_facts(tmp_path), tiny_llama(), tiny_tokenizer())


def test_a_predictor_without_a_module_has_no_weights(tmp_path):
    write_latent_predictor(tmp_path, facts(), {})
    assert read_weights(tmp_path) == {}


def test_a_writer_that_is_killed_leaves_no_predictor(tmp_path, monkeypatch):
    write_latent_predictor(tmp_path, facts(), WEIGHTS)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        write_latent_predictor(tmp_path, facts(), {})
    with pytest.raises(ValueError, match="The run has no latent predictor"):
        read_facts(tmp_path)


def test_the_digest_changes_with_weights_options_and_form_of_prompts_alone(tmp_path):
    digests = []
    others = PredictorFacts(**vars(facts()) | {"options": OPTIONS | {"num_predictor_tokens": 2}})
    moved = PredictorFacts(**vars(facts()) | {"base_name_or_path": "elsewhere", "commit": "0"})
    plain = PredictorFacts(**vars(facts()) | {"has_plain_prompts": True})
    written_facts = ((facts(), WEIGHTS), (facts(), {}), (others, WEIGHTS), (moved, WEIGHTS), (plain, WEIGHTS))
    for written, weights in written_facts:
        write_latent_predictor(tmp_path, written, weights)
        digests.append(predictor_digest(tmp_path))
    assert len({*digests}) == 4
    assert digests[3] == digests[0]


def damage_weights(folder):
    (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:-1])


def change_format(folder):
    content = json.loads((folder / FACTS_FILE).read_text())
    (folder / FACTS_FILE).write_text(json.dumps(content | {"format": 2}))


@pytest.mark.parametrize(("damage", "message"), [
    (lambda folder: (folder / FACTS_FILE).unlink(), "The run has no latent predictor"),
    (damage_weights, "is missing or not what training wrote"),
    (lambda folder: (folder / WEIGHTS_FILE).unlink(), "is missing or not what training wrote"),
    (change_format, "is of another format than 1"),
    (lambda folder: (folder / FACTS_FILE).write_text("{"), "cannot be read"),
])  # fmt: skip
def test_a_predictor_that_is_not_whole_is_refused(tmp_path, damage, message):
    write_latent_predictor(tmp_path, facts(), WEIGHTS)
    damage(tmp_path / FOLDER)
    with pytest.raises(ValueError, match=message):
        read_facts(tmp_path)
