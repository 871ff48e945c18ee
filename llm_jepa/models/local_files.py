"""The files of models and adapters by their names, and checks of those on this machine. Imports no torch."""

import json
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from llm_jepa.files.paths import looks_like_a_path

ArtifactKind = Literal["adapter", "model", "vision"]
"""A PEFT adapter, a model of text, or a VL-JEPA model."""
ADAPTER_CONFIG, MODEL_CONFIG = "adapter_config.json", "config.json"
VISION_MODEL_TYPE, TOKEN_MODEL_TYPE = "vl_jepa", "token_vlm"
"""Those of the models of `llm_jepa.vision`."""
MODEL_FILES = (MODEL_CONFIG, ADAPTER_CONFIG, "*.gguf")
"""The directory of a model or adapter holds at least one of these."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "tokenization_*.py",
)


def matches_one_of(name: str, patterns: Iterable[str]) -> bool:
    """Whether the name of a file, with its folders, matches a pattern; `*` stands for no slash."""
    return any(fnmatch(name, pattern) for pattern in patterns if pattern.count("/") == name.count("/"))


def artifact_kind(directory: Path) -> ArtifactKind:
    """What a directory holds.

    Raises:
        ValueError: It is not there, or holds neither.
    """
    if not directory.is_dir():
        raise ValueError(
            f"`{directory}` is no directory (looked in {Path.cwd()}). Give the output directory of a run, or what "
            "`llm-jepa merge` wrote."
        )
    if (directory / ADAPTER_CONFIG).is_file():
        return "adapter"
    if is_vision_model(directory):
        return "vision"
    if (directory / MODEL_CONFIG).is_file():
        return "model"
    raise ValueError(
        f"`{directory}` holds no adapter ({ADAPTER_CONFIG}) and no model ({MODEL_CONFIG}). Give the output directory "
        "of a run, or what `llm-jepa merge` wrote."
    )


def check_text_run(directory: Path, command: str) -> None:
    """Check that a directory holds an adapter or a model of text, for a command that answers with one.

    Raises:
        ValueError: It holds neither.
    """
    if artifact_kind(directory) == "vision":
        raise ValueError(
            f"`{directory}` is a run of VL-JEPA; `llm-jepa {command}` is for runs on text. Use `llm-jepa answer`."
        )
    refuse_token_vlm(directory, command)


def refuse_token_vlm(directory: Path, command: str) -> None:
    """Refuse a token VLM for a command that a control does not need.

    Raises:
        ValueError: The directory holds one.
    """
    if model_type(directory) == TOKEN_MODEL_TYPE:
        raise ValueError(
            f"`{directory}` is a token VLM, a control of VL-JEPA, which `llm-jepa {command}` does not take. Use "
            "`llm-jepa eval`."
        )


def is_vision_model(directory: Path) -> bool:
    """Whether a directory holds a VL-JEPA model."""
    return model_type(directory) == VISION_MODEL_TYPE


def model_type(directory: Path) -> str | None:
    """What the configuration in a directory calls its model; None without one that can be read."""
    path = directory / MODEL_CONFIG
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("model_type") if path.is_file() else None
    except (ValueError, AttributeError):  # no JSON, or no mapping: whoever loads the model says so
        return None


def check_merge(adapter: str, output_dir: Path) -> None:
    """Check what `llm-jepa merge` reads and writes, as far as this machine can tell.

    Raises:
        ValueError: The output directory is not empty, or the adapter is neither here nor a Hub id.
    """
    check_new_directory(output_dir)
    directory = Path(adapter)
    is_hub_id = not directory.exists() and adapter.count("/") == 1 and not looks_like_a_path(adapter)
    if not is_hub_id and not (directory / ADAPTER_CONFIG).is_file():
        raise ValueError(not_an_adapter(adapter))


def check_new_directory(output_dir: Path) -> None:
    """Check that an output directory is new or empty.

    Raises:
        ValueError: It is a file, or holds files.
    """
    if output_dir.is_file() or (output_dir.is_dir() and any(output_dir.iterdir())):
        raise ValueError(f"`output_dir: {output_dir}` is not empty. Nothing was overwritten. Name another directory.")


def not_an_adapter(name: str) -> str:
    """The message on a name that `llm-jepa merge` finds no adapter for."""
    return (
        f"{name!r} is not an adapter: it has no {ADAPTER_CONFIG}. Give a run trained with `use_peft: true`, an "
        "adapter's directory or its Hub id. A fully trained model needs no merging."
    )
