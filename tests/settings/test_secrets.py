"""Secrets are known by their key's name or their form, refused where recipes are read, and shown nowhere."""

import json
import logging
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa import JEPAConfig
from llm_jepa.cli import main
from llm_jepa.entry import MISTAKE_STATUS, entry_point
from llm_jepa.experiments.spec_reading import read_experiment
from llm_jepa.hub.publication import refuse_leaks
from llm_jepa.settings.reading import read_overrides, read_settings
from llm_jepa.settings.schema import known_settings
from llm_jepa.settings.secrets import REDACTED, find_secrets, redacted, redacted_text

HF = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh"
FORMS = [
    HF,
    "sk-proj-" + "a1B2" * 8,
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1_B2" * 6,
    "glpat-" + "a1B2" * 5,
    "xoxb-123456789012-abcdef",
    "AKIA" + "A1B2" * 4,
    "AIza" + "a1B2c" * 7,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "-----BEGIN RSA PRIVATE KEY-----",
]
HARMLESS = [
    "hf_column", "question", "sk-learn-models-for-text", "task-conditioned-summarization-1",
    "HuggingFaceTB/SmolLM2-135M", "train[:90%]",
    "https://huggingface.co/datasets/team/pairs?split=train", "hf://datasets/team/pairs@main/x.jsonl",
    "{{ token }} {{ password }}", 'Answer as {"password": "..."}.',
    "https://medium.com/@mira/post", "http://localhost:8000/v1", "monkey=1",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_known_by_its_form_wherever_it_stands(form):
    settings = {"system_prompt": f"Use {form}.", "chat_template_kwargs": {"inner": [{"x": form}, "y"]}}
    assert list(find_secrets(settings)) == ["system_prompt", "chat_template_kwargs.inner.x"]
    assert form not in redacted_text(f"see {form}, please")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://mira:pa55@host/x.jsonl", f"https://{REDACTED}@host/x.jsonl"),
        ("https://mira:p@ss@host/x.jsonl", f"https://{REDACTED}@host/x.jsonl"),
        ("https://0123abcd@host/x", f"https://{REDACTED}@host/x"),
        ("postgres://mira:pa55@host/db", f"postgres://{REDACTED}@host/db"),
        ("https://host/x?a=1&token=0123", f"https://host/x?a=1&{REDACTED}"),
        ("https://host/x?X-Amz-Signature=0123&b=2", f"https://host/x?{REDACTED}&b=2"),
    ],
)
def test_of_a_url_the_part_that_gives_access_is_the_secret(url, shown):
    assert redacted_text(url) == shown
    assert list(find_secrets({"dataset_name": url})) == ["dataset_name"]


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_are_none(text):
    assert redacted({"dataset_name": text, "inner": {"columns": [text]}}) == {
        "dataset_name": text, "inner": {"columns": [text]},
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "token", "HF_TOKEN", "use_auth_token", "my_token", "password", "DB_PASSWORD", "secret", "clientSecret",
        "api_key", "X-Api-Key", "apikey", "aws_secret_access_key", "credential", "credentials", "Authorization",
        "private_key",
    ],
)  # fmt: skip
def test_a_secret_is_known_by_its_keys_name(name):
    assert list(find_secrets({"model_init_kwargs": {"inner": {name: "0123abcd"}}})) == [
        f"model_init_kwargs.inner.{name}"
    ]
    for empty in (None, True, False, ""):
        assert not list(find_secrets({name: empty}))


def test_all_that_lies_in_a_secret_is_one_numbers_too():
    settings = {"credentials": {"user": "mira", "pin": 1234, "refresh": True}, "steps": 3}
    assert redacted(settings) == {
        "credentials": {"user": REDACTED, "pin": REDACTED, "refresh": True}, "steps": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eos_token", "</s>"), ("pad_token", "!"), ("image_token", "<image>"), ("prefix_token", "▁<PRE>"),
        ("mask_token", "MASK"), ("num_tokens", "7"), ("max_new_tokens", 7), ("token_type", "x"), ("token", 7),
        ("tokenizer", "x"), ("authors", "x"), ("key", "x"), ("keys", "x"), ("token", {"content": "x"}),
    ],
)  # fmt: skip
def test_tokens_of_a_vocabulary_and_other_names_are_none(name, value):
    assert not list(find_secrets({name: value}))


def test_of_all_keys_of_a_recipe_one_is_a_secret():
    named = dict.fromkeys(known_settings(), "text")
    assert list(find_secrets(named)) == ["hub_token"]


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner)))
def test_what_is_redacted_holds_no_secret(value):
    settings = {"password": value, "x": value}
    assert not list(find_secrets(redacted(settings)))


# --- recipes, command lines, experiments

NESTED = {"headers": {"Authorization": "Bearer 0123"}}


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("model_init_kwargs: {token: abcd}", "model_init_kwargs.token"),
        (f"model_init_kwargs: {json.dumps(NESTED)}", "model_init_kwargs.headers.Authorization"),
        ("hub_token: abcd", "hub_token"),
        ("dataset_name: https://mira:pa55@host/x.jsonl", "dataset_name"),
        (f"run_name: {HF}", "run_name"),
    ],
)
def test_a_recipe_with_a_secret_is_refused_with_what_to_do(tmp_path, line, place):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"seed: 3\n{line}\n")
    with pytest.raises(ValueError, match=rf"line 2: `{place}` holds a secret.*hf auth login.*HF_TOKEN") as refused:
        read_settings(path)
    assert not any(part in str(refused.value) for part in ("abcd", "0123", "pa55", HF))


def test_a_command_line_takes_the_token_of_the_hub_and_no_other_secret():
    assert read_overrides(["--hub_token", HF]) == {"hub_token": HF}
    with pytest.raises(ValueError, match=r"command line: `model_init_kwargs\.token` holds a secret"):
        read_overrides(["--model_init_kwargs", '{"token": "abcd"}'])


@pytest.mark.parametrize("place", ["settings", "arms", "search"])
def test_an_experiment_passes_no_secret_on_to_its_cells(tmp_path, place):
    given = {
        "settings": {"settings": {"hub_token": "abcd"}},
        "arms": {"arms": {"a": {"model_init_kwargs": {"token": "abcd"}}}},
        "search": {"search": {"split": "train", "grid": {"run_name": [HF]}}},
    }
    path = tmp_path / "compare.yaml"
    path.write_text(
        json.dumps({"recipe": "r.yaml", "output_dir": "o", "baseline": "a", "arms": {}, "seeds": [1]} | given[place])
    )
    with pytest.raises(ValueError, match=r"compare.yaml, line 1: `.*(token|run_name)` holds a secret") as refused:
        read_experiment(path)
    assert "abcd" not in str(refused.value)


# --- what is written


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "https://mira:pa55word@host/x.jsonl"],
        ["train", "r.yaml", "--model_init_kwargs", '{"token": "pa55word", }'],
        ["push", ".", "--repo_id", "a/b", "--url", "https://mira:pa55word@host"],
    ],
)
def test_errors_show_no_secret(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text("model_name_or_path: m\n")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == MISTAKE_STATUS
    said = capsys.readouterr().err
    assert REDACTED in said
    assert "pa55word" not in said


def test_the_log_shows_no_secret(capsys):
    with entry_point():
        logging.getLogger("llm_jepa.x").warning("Fetching %s.", f"https://{HF}@host")
    assert capsys.readouterr().err == f"Fetching https://{REDACTED}@host.\n"


def test_a_config_tells_trackers_its_repr_and_its_stored_copy_no_secret():
    """The config itself keeps them: it loads the model and publishes the result."""
    kwargs = {"token": "0123abcd", "dtype": torch.float32, "inner": {"password": "pa55word"}}
    config = JEPAConfig("out", hub_token="mytoken", model_init_kwargs=kwargs, use_cpu=True, bf16=False)
    stored = config.without_secrets()
    for shown in (json.dumps(config.to_dict()), config.to_json_string(), repr(config), str(config), str(vars(stored))):
        assert not any(secret in shown for secret in ("0123abcd", "mytoken", "pa55word"))
    assert (config.hub_token, config.model_init_kwargs) == ("mytoken", kwargs)
    assert stored.model_init_kwargs["dtype"] is torch.float32
    assert stored.hub_token is None
    assert stored.learning_rate == config.learning_rate


@pytest.mark.parametrize(
    ("name", "text", "is_refused"),
    [
        ("config.json", '{"auth_token": "0123abcd"}', True),
        ("README.md", f"See https://mira:{HF}@host.", True),
        ("chat_template.jinja", """{{ 'Answer as {"password": "..."}' }}""", False),
        ("chat_template.jinja", f"{{# {HF} #}}", True),
        ("tokenizer_config.json", '{"eos_token": "<|im_end|>", "image_token": "<image>"}', False),
        ("tokenizer.json", f'{{"vocab": {{"{HF}": 1}}}}', False),
    ],
)
def test_a_file_with_a_secret_is_not_published(name, text, is_refused, tmp_path):
    expected = pytest.raises(
        ValueError, match=rf"`{name}` holds a secret( under `auth_token`)?\. Nothing was published"
    )
    with expected if is_refused else nullcontext():
        refuse_leaks({name: text.encode()}, tmp_path, None)


def test_secrets_are_found_without_torch():
    program = "import sys, llm_jepa.settings.secrets; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
