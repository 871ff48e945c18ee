"""Which texts are paths of this machine, and which Hub id a model has."""

import dataclasses
import json
from contextlib import nullcontext

import pytest

from llm_jepa.hub.publication import (
    gather_files,
    hub_id,
    is_written_by_push,
    public_settings,
    refuse_leaks,
    strip_paths,
)
from llm_jepa.models.known_models import KNOWN_MODELS, SOURCE_FILE, model_origin
from llm_jepa.models.latent_predictor import PREDICTOR_FILES, write_latent_predictor
from tests.models.test_latent_predictor import facts
from tests.tiny import save_tiny_model


@pytest.mark.parametrize(
    ("key", "text", "public"),
    [
        ("cache_dir", "/srv/mira/models", "models"),
        ("chat_template_path", "~/chat.jinja", "chat.jinja"),
        ("tokenizer_file", "../data/tokenizer.json", "tokenizer.json"),
        ("special_tokens_map_file", "C:\\Users\\mira\\map.json", "map.json"),
        ("database_path", "/data/spider/{db_id}/{db_id}.sqlite", "{db_id}.sqlite"),
        ("database_path", "acme/pets.sqlite", "pets.sqlite"),
        ("deepspeed", "customers/acme/zero3.json", "zero3.json"),
        ("excluded_rows", "/srv/mira/rows.json", "rows.json"),
        ("jepa_objective", "~/mira/own.py:Mine", "own.py:Mine"),
        ("jepa_objective", "C:\\Users\\mira\\own.py:Mine", "own.py:Mine"),
        ("jepa_objective", ["next_latent", "/srv/mira/own.py:Mine"], ["next_latent", "own.py:Mine"]),
        ("name_or_path", "/srv/mira/models/llama", "llama"),
        ("_name_or_path", "Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("_name_or_path", "/home/mira/.cache/hub/models--Qwen--Qwen3-8B/snapshots/0a1b", "Qwen/Qwen3-8B"),
    ],
)
def test_under_a_key_for_paths_the_last_part_is_kept(key, text, public):
    assert strip_paths({"inside": [{key: text, "number": 3}]}) == {"inside": [{key: public, "number": 3}]}


@pytest.mark.parametrize(
    "text",
    [
        "Q: {{ source }}",
        "/no_think/ {{ q }}",
        "//",
        "A:",
        "/srv/a /srv/b",
        ".*q_proj|.*v_proj",
        "train[:90%]",
        "C:\\x",
    ],
)
def test_any_other_text_stays_as_it_is_whatever_it_looks_like(text):
    settings = {"source_column": text, "system_prompt": text, "view_columns": [text], "eos_token": text}
    assert public_settings(settings, {}) == settings


def test_a_recipe_is_published_without_what_is_private_or_has_no_public_name():
    settings = {"output_dir": "out", "hub_token": "hf_x", "report_to": "wandb", "dataset_name": "team/secret"}
    assert public_settings(settings, {"output_dir": "outputs/a", "dataset_name": None, "model_revision": None}) == {
        "output_dir": "outputs/a"
    }


@pytest.mark.parametrize(
    ("name", "is_local", "expected"),
    [
        ("smollm2-135m-instruct", None, "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("/home/mira/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/0a1b", True, "Qwen/Qwen3-8B"),
        ("gpt2", None, "gpt2"),
        ("/home/mira/model", None, None),
        ("data/set/deep", None, None),
        ("data/pairs", True, None),
        ("data/pairs", False, "data/pairs"),
    ],
)
def test_a_hub_id_is_told_from_a_directory(name, is_local, expected):
    assert hub_id(name, is_local) == expected


def test_where_nobody_noted_what_was_here_a_look_tells(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub_id("customer/data") == "customer/data"
    (tmp_path / "customer" / "data").mkdir(parents=True)
    assert hub_id("customer/data") is None


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        ("see /srv/mira/notes", True),
        ("file:///srv/mira", True),
        ("[pairs](/srv/miranda/pairs)", False),
        ("https://hub/srv/mira", False),
    ],
)
def test_places_of_this_machine_are_met_as_whole_paths(text, is_refused, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/srv/mira")
    with pytest.raises(ValueError, match="holds a path of this machine") if is_refused else nullcontext():
        refuse_leaks({"README.md": text.encode()}, tmp_path, None)


def test_a_place_below_the_root_does_not_stand_in_the_way(tmp_path, monkeypatch):
    """Home `/datasets`, and a card that links a data set."""
    monkeypatch.setenv("HOME", "/datasets")
    refuse_leaks({"README.md": b"[team/pairs](/datasets/team/pairs)"}, tmp_path, None)


def test_a_private_base_is_not_told_by_the_latent_predictor(tmp_path):
    save_tiny_model(tmp_path)
    secret = dataclasses.replace(facts(), base_name_or_path="team/secret-base", base_revision="0a1b")
    write_latent_predictor(tmp_path, secret, {})
    settings = {"model_name_or_path": "team/secret-base", "model_revision": "0a1b"}
    files = gather_files(tmp_path, settings, dict.fromkeys(settings)).files
    public = json.loads(files[PREDICTOR_FILES[0]])
    assert (public["base_name_or_path"], public["base_revision"]) == (None, None)
    assert not any(b"secret" in content for content in files.values() if isinstance(content, bytes))


def test_only_a_fetched_models_origin_is_told(tmp_path):
    """Somebody's own `SOURCE.md` is nobody else's business."""
    known = next(iter(KNOWN_MODELS.values()))
    for first_line, origin in ((f"# {known.hub_id}", "From nas01."), ("# Our notes", None)):
        (tmp_path / SOURCE_FILE).write_text(f"{first_line}\n\nFrom\nnas01.\n\nLicence: x\n")
        assert model_origin(str(tmp_path)) == origin
        assert hub_id(str(tmp_path)) == (known.hub_id if origin else None)


def test_files_that_a_push_writes_are_known_by_name():
    ours = ["adapter_model.safetensors", "special_tokens_map.json", "recipe.yaml", ".eval_results/llm-jepa.yaml"]
    theirs = ["samples.txt", "old/recipe.yaml", "sub/tokenizer.model", "README.md", "model.safetensors"]
    assert [name for name in (*ours, *theirs) if is_written_by_push(name, "adapter")] == ours
