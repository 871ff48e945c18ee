"""What `merge` and `eval` download, and how they report failed calls, with a Hub on loopback."""

import json
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from llm_jepa.cli import main
from llm_jepa.models.adapters import find_adapter
from llm_jepa.models.latent_predictor import PREDICTOR_FILES
from llm_jepa.models.subject import read_subject
from tests.hub.hub_server import BASE, Fault, HubServer
from tests.models.test_merging import refusal, save_adapter
from tests.tiny import PAIRS, save_tiny_model

ADAPTER = "team/adapter"
NEEDLESS = {".gitattributes", "README.md"}


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """The files of a base and of an adapter on it, with a recipe that asks for more than it may."""
    directory = tmp_path_factory.mktemp("published")
    base = save_tiny_model(directory / "base")
    adapter = save_adapter(directory / "adapter", base)
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": BASE}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    recipe = {
        "model_name_or_path": BASE, "dataset_name": "team/data", "output_dir": "/etc", "use_peft": True,
        "dtype": "bfloat16", "bf16": False, "trust_remote_code": True, "attn_implementation": "team/kernel",
        "model_init_kwargs": {"trust_remote_code": True},
    }  # fmt: skip
    (adapter / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    found = {"base": Path(base), "adapter": adapter}
    return {name: {path.name: path.read_bytes() for path in place.iterdir()} for name, place in found.items()}


@pytest.fixture
def full_hub(hub: HubServer, published) -> HubServer:
    hub.add(BASE, published["base"])
    hub.add(ADAPTER, published["adapter"], private=True)
    return hub


def test_a_pulled_recipe_says_how_the_base_is_loaded_and_nothing_else(full_hub, published):
    """Base and revision are those of the adapter's configuration; no code, no other place."""
    evil = published["adapter"]["recipe.yaml"].replace(BASE.encode(), b"team/evil")
    full_hub.add("team/other", published["adapter"] | {"recipe.yaml": evil})
    for name in (ADAPTER, "team/other"):
        adapter = find_adapter(name)
        assert adapter is not None
        assert adapter.base_settings == {
            "dtype": "bfloat16", "bf16": False, "use_peft": True, "model_name_or_path": BASE,
        }  # fmt: skip
    data = ["--dataset_name", "d", "--source_column", "source", "--target_column", "target"]
    recipe, checkpoints = read_subject(ADAPTER, data, None)
    assert (recipe.model.dtype, recipe.training.trust_remote_code, checkpoints) == (
        "bfloat16",
        False,
        ["base", "tuned"],
    )


def test_the_revision_of_an_adapters_base_is_taken(full_hub, published, tmp_path):
    """Which is not the newest one: that is another model."""
    first = full_hub.model(BASE).sha
    config = json.loads(published["adapter"]["adapter_config.json"]) | {"revision": first}
    full_hub.add(ADAPTER, published["adapter"] | {"adapter_config.json": json.dumps(config).encode()})
    save_tiny_model(tmp_path / "other", seed=5)
    newer = {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()}
    full_hub.model(BASE).commits.append(newer)
    main(["merge", ADAPTER, "--output_dir", str(tmp_path / "merged"), "--dtype", "float32"])
    name = "model.embed_tokens.weight"
    found, old, new = (
        AutoModelForCausalLM.from_pretrained(place).state_dict()[name]
        for place in (tmp_path / "merged", *(unpacked(files, tmp_path) for files in (published["base"], newer)))
    )
    assert torch.allclose(found, old, atol=0.01)  # of bfloat16
    assert not torch.allclose(found, new, atol=0.1)


def unpacked(files: dict[str, bytes], directory: Path) -> Path:
    place = directory / f"unpacked-{len(list(directory.iterdir()))}"
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)
    return place


def test_an_evaluation_of_a_hub_id_leaves_the_cache_as_it_is(full_hub, tmp_path, capsys):
    """Its results are written where `--predictions` says, else nowhere."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    command = ["eval", ADAPTER, "--dataset_name", str(tmp_path / "data"), "--max_new_tokens", "2", "--max_rows", "1"]
    command += ["--source_column", "source", "--target_column", "target"]
    assert main(command) == 0
    assert "tuned" in capsys.readouterr().out
    snapshot = find_adapter(ADAPTER).directory
    assert {path.name for path in snapshot.iterdir()} == full_hub.model(ADAPTER).files.keys() - NEEDLESS


def fetched(hub: HubServer, repo_id: str) -> set[str]:
    start = f"GET /{repo_id}/resolve/"
    return {call.removeprefix(start).partition("/")[2] for call in hub.calls if call.startswith(start)}


@pytest.mark.parametrize("command", ["merge", "eval"])
def test_of_a_repository_only_what_is_used_is_downloaded(full_hub, published, tmp_path, command):
    """No checkpoints, no other formats and no copies of the weights, neither of the adapter nor of its base."""
    of_adapter = ["adapter_model.bin", "adapter.gguf", "checkpoint-7/adapter_model.safetensors", "run/tokenizer.json"]
    of_base = ["pytorch_model.bin", "model.gguf", "original/consolidated.00.pth", "checkpoint-7/model.safetensors"]
    predictor = {name: name.encode() for name in PREDICTOR_FILES}
    full_hub.add(ADAPTER, published["adapter"] | predictor | dict.fromkeys(of_adapter, b"-"))
    full_hub.add(BASE, published["base"] | dict.fromkeys(of_base, b"-"))
    (tmp_path / "test.jsonl").write_text(json.dumps(PAIRS[0]) + "\n")
    options = {
        "merge": ["--output_dir", str(tmp_path / "merged")],
        "eval": [
            "--dataset_name", str(tmp_path / "test.jsonl"), "--dataset_test_split", "train", "--max_new_tokens", "1",
            "--source_column", "source", "--target_column", "target",
        ],
    }  # fmt: skip
    assert main([command, ADAPTER, *options[command]]) == 0
    assert fetched(full_hub, ADAPTER) == (published["adapter"] | predictor).keys() - NEEDLESS
    assert {"config.json", "model.safetensors"} <= fetched(full_hub, BASE) <= published["base"].keys()


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "There is no such repository, or it is private. Log in"),
        (403, "Your token may not read it"),
        (429, "The Hub asks for fewer requests"),
        (500, "The Hub answered 500"),
        (0, "The connection to the Hub broke"),
    ],
)
@pytest.mark.parametrize("path", ["adapter_config", "adapter_model", f"/api/models/{ADAPTER}"])
def test_a_failing_pull_is_explained(full_hub, capsys, tmp_path, path, status, message):
    full_hub.faults.append(Fault(path, status))
    error = refusal(capsys, ADAPTER, tmp_path / "out")
    assert f"{ADAPTER}: " in error
    assert message in error
    assert "published" not in error


@pytest.mark.parametrize("status", [401, 500, 0])
def test_a_base_that_cannot_be_pulled_is_named(full_hub, capsys, tmp_path, status):
    full_hub.faults.append(Fault(f"{BASE}/resolve/", status))
    assert f"The adapter's base '{BASE}' cannot be loaded" in refusal(capsys, ADAPTER, tmp_path / "out")


def test_a_repository_that_is_none_an_expired_token_and_a_model_are_told_apart(
    full_hub, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    error = refusal(capsys, "team/none", tmp_path / "out")
    assert "team/none: There is no such repository" in error
    assert f"{tmp_path} has no directory of that name." in error
    assert f"'{BASE}' is not an adapter" in refusal(capsys, BASE, tmp_path / "out")
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    assert f"{ADAPTER}: There is no such repository" in refusal(capsys, ADAPTER, tmp_path / "out")


def test_without_the_hub_what_is_cached_is_found(full_hub, monkeypatch, capsys, tmp_path):
    """An adapter, and a model that is none; of anything else it is said what is missing."""
    adapter = find_adapter(ADAPTER)
    AutoModelForCausalLM.from_pretrained(BASE)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert find_adapter(ADAPTER) == adapter
    assert find_adapter(BASE) is None
    assert find_adapter("HuggingFaceTB/SmolLM2-135M-Instruct") is None
    assert "team/none: HF_HUB_OFFLINE is set" in refusal(capsys, "team/none", tmp_path / "out")
