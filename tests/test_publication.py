"""What is a path of this machine, and by what name others know a model."""

import pytest

from llm_jepa.publication import hub_id, public_settings, without_paths


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/srv/mira/models/llama", "llama"),
        ("~/chat.jinja", "chat.jinja"),
        ("../data/train.jsonl", "train.jsonl"),
        ("/data/spider/{db_id}/{db_id}.sqlite", "{db_id}.sqlite"),
        ("C:\\Users\\mira\\data", "data"),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("/no_think", "/no_think"),
        (".*q_proj|.*v_proj", ".*q_proj|.*v_proj"),
        ("train[:90%]", "train[:90%]"),
        ("{% if a %}\n/usr/bin/x\n{% endif %}", "{% if a %}\n/usr/bin/x\n{% endif %}"),
    ],
)
def test_a_path_keeps_its_last_part_and_all_else_stays(text, public):
    assert without_paths({"list": [text], "number": 3}) == {"list": [public], "number": 3}


def test_a_relative_path_is_known_by_being_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert without_paths("customer/data") == "customer/data"
    (tmp_path / "customer" / "data").mkdir(parents=True)
    assert without_paths("customer/data") == "data"
    assert hub_id("customer/data") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("/home/mira/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/0a1b", "Qwen/Qwen3-8B"),
        ("gpt2", "gpt2"),
        ("/home/mira/model", None),
        ("data/set/deep", None),
    ],
)
def test_a_hub_id_is_told_from_a_directory(name, expected):
    assert hub_id(name) == expected


def test_a_system_prompt_is_no_path():
    settings = {"system_prompt": "/srv/a /srv/b", "output_dir": "out", "hub_token": "hf_x", "report_to": "wandb"}
    assert public_settings(settings, {"output_dir": "outputs/a", "dataset_name": "d"}) == {
        "system_prompt": "/srv/a /srv/b",
        "output_dir": "outputs/a",
    }
