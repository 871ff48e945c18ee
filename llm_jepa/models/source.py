"""Finds a model in a directory or on the Hub, and checks that it can be trained. Imports no torch."""

import difflib
import functools
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_jepa.files.paths import looks_like_a_path
from llm_jepa.models.local_files import ADAPTER_CONFIG, MODEL_CONFIG, MODEL_FILES

KNOWN_MODEL_IDS = {"smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Short name -> Hub id of the known causal LMs (`llm_jepa.models.known_models`)."""
KNOWN_ENCODERS = ("minilm-l6-v2", "efficientnet-lite0")
"""Short names of the other known models, the encoders of texts and pictures."""
KNOWN_NAMES = (*KNOWN_MODEL_IDS, *KNOWN_MODEL_IDS.values(), *KNOWN_ENCODERS)
HUB_TIMEOUT_SECONDS = 5.0
WHAT_TO_NAME = "Name a model's directory, a Hub id, or a known model."
WEIGHTS, PICKLED_WEIGHTS = "model.safetensors", "pytorch_model.bin"
OTHER_WEIGHT_SETTINGS = frozenset({"subfolder", "variant", "gguf_file", "use_safetensors"})
"""Keys of `model_init_kwargs` by which other files than these are read."""
CAUSAL_LM_ENDINGS = ("ForCausalLM", "LMHeadModel")


def check_local_model(name_or_path: str, key: str = "model_name_or_path") -> None:
    """Check that a name that is a path holds a model; the name of a known model or a Hub id passes.

    Args:
        key: The key of the recipe that names it.

    Raises:
        ValueError: There is no such directory, or it holds no model.
    """
    if not name_or_path:
        raise ValueError(f"`{key}` is empty. {WHAT_TO_NAME}")
    path = Path(name_or_path)
    if path.is_dir():
        if not any(file for pattern in MODEL_FILES for file in path.glob(pattern)):
            raise ValueError(
                f"`{key}: {name_or_path}` holds no model: none of {', '.join(MODEL_FILES)}. {WHAT_TO_NAME}"
            )
        return
    if path.is_file() or looks_like_a_path(name_or_path):
        raise ValueError(
            f"`{key}: {name_or_path}` is no directory (looked in {Path.cwd()}). "
            f"{_suggestion(name_or_path)}{WHAT_TO_NAME}"
        )


def check_local_base(name_or_path: str, reads_weights: bool = True) -> None:
    """Check that a model's directory holds a causal LM and, if they are read, whole weights.

    Raises:
        ValueError: It is an adapter or a model of another kind, or files are missing or cut off.
    """
    directory = Path(name_or_path)
    if (directory / MODEL_CONFIG).is_file():
        check_architecture(_read_config(directory), name_or_path)
        if reads_weights:
            _check_weights(directory)
    elif (directory / ADAPTER_CONFIG).is_file():
        raise ValueError(
            f"`model_name_or_path: {name_or_path}` is an adapter. Merge it into its base, and train the merged model: "
            f"`llm-jepa merge {name_or_path} --output_dir NEW`."
        )


def check_model_on_hub(name_or_path: str, key: str = "model_name_or_path") -> None:
    """Check that a name that is no directory is a model on the Hub or in its cache; a known model passes.

    Args:
        key: The key of the recipe that names it.

    Raises:
        ValueError: There is no such model, or the Hub does not answer and the model is not in its cache.
    """
    if (
        not Path(name_or_path).is_dir()
        and name_or_path not in KNOWN_NAMES
        and os.environ.get("LOCAL_RANK", "0") == "0"
    ):
        _ask_hub(name_or_path, key)


@functools.cache
def _ask_hub(name: str, key: str) -> None:
    """Ask once; transformers would retry for 40 seconds if the Hub does not answer."""
    from huggingface_hub import HfApi, constants

    from llm_jepa.files.hub_errors import hub_errors_explained

    if (Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}").exists():
        return
    try:
        with hub_errors_explained(name, "read"):
            HfApi().model_info(name, timeout=HUB_TIMEOUT_SECONDS)
    except ValueError as error:
        raise ValueError(f"`{key}: {name}`: {_suggestion(name)}{error} {WHAT_TO_NAME}") from error


def _suggestion(name: str) -> str:
    """A question that names the nearest known model or directory of a model beside the one that is missing."""
    path = Path(name)
    near = [str(path.parent / one.parent.name) for one in path.parent.glob(f"*/{MODEL_CONFIG}")]
    found = difflib.get_close_matches(name, [*KNOWN_NAMES, *near], n=1, cutoff=0.75)
    return f"Did you mean `{found[0]}`? " if found else ""


def check_architecture(config: Mapping[str, Any], name: str) -> None:
    """Check by a model's configuration that the model is a causal LM. Code of its own is trusted to be one.

    Raises:
        ValueError: It is an encoder, an encoder-decoder, or a model of other inputs than text.
    """
    architectures = [str(one) for one in config.get("architectures") or ()]
    is_causal = not architectures or any(one.endswith(CAUSAL_LM_ENDINGS) for one in architectures)
    is_causal |= "AutoModelForCausalLM" in (config.get("auto_map") or {})
    if config.get("is_encoder_decoder") or not is_causal:
        kind = ", ".join(architectures) or config.get("model_type")
        raise ValueError(
            f"`model_name_or_path: {name}` is of the kind {kind}; only causal language models of text can be trained, "
            f"whose kind ends in {' or '.join(CAUSAL_LM_ENDINGS)}. Name one of these."
        )


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / MODEL_CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"`{path}` is not JSON: {error}. Fetch or save the model again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"`{path}` holds no mapping. Fetch or save the model again.")
    return content


def _check_weights(directory: Path) -> None:
    """Check the files in the order in which transformers looks for them."""
    for name in (WEIGHTS, PICKLED_WEIGHTS):
        index = directory / f"{name}.index.json"
        files = [directory / name] if (directory / name).is_file() else []
        if not files and index.is_file():
            files = _files_of_index(index)
        if files:
            for file in files:
                if file.suffix == ".safetensors":
                    _check_safetensors(file)
            return
    raise ValueError(f"`{directory}` holds no weights ({WEIGHTS}). Fetch or save the model again.")


def _files_of_index(index: Path) -> list[Path]:
    try:
        names = sorted({*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"`{index}` is no index of weights ({error!r}). Fetch or save the model again.") from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ValueError(
            f"`{index.parent}` lacks {len(missing)} of {len(names)} files of weights: {', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}. Fetch or save the model again."
        )
    return [index.parent / name for name in names]


def _check_safetensors(file: Path) -> None:
    """Compare a file's size with its header: 8 bytes with the header's length, the header in JSON, the tensors."""
    size = file.stat().st_size
    with file.open("rb") as content:
        start = content.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        header = content.read(length) if length < size else b""
    try:
        tensors = [tensor for name, tensor in json.loads(header).items() if name != "__metadata__"]
        wanted = 8 + length + max((tensor["data_offsets"][1] for tensor in tensors), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        wanted = None
    if wanted != size:
        should = "" if wanted is None else f"; it should be {wanted}"
        raise ValueError(
            f"`{file}` is not whole: it has {size} bytes{should}. It was cut off, or is another file (a Git LFS "
            "pointer, perhaps). Fetch the model again."
        )
