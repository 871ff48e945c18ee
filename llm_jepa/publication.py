"""What of a directory is published, and how it is made fit for others: no path, name or token of this machine."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from peft.utils import CONFIG_NAME as ADAPTER_CONFIG
from transformers.utils import CONFIG_NAME as MODEL_CONFIG

from llm_jepa.modeling import find_known_model
from llm_jepa.recipe import recipe_text
from llm_jepa.run_record import KEYS_WITHOUT_EFFECT_ON_RESULT, RECIPE_FILE

Kind = Literal["adapter", "model"]
Content = Path | bytes

WEIGHTS: dict[Kind, tuple[str, ...]] = {
    "adapter": (ADAPTER_CONFIG, "adapter_model.safetensors"),
    "model": (
        MODEL_CONFIG,
        "generation_config.json",
        "model*.safetensors",
        "model.safetensors.index.json",
        "configuration_*.py",
        "modeling_*.py",
    ),
}
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "tokenization_*.py",
)
CARD_FILE = "README.md"
RESULTS_FILE = ".eval_results/llm-jepa.yaml"
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")
"""Their words may look like a path."""

HUB_ID = re.compile(r"[\w][\w.-]*(/[\w.-]+)?")
CACHED_MODEL = re.compile(r"models--([\w.-]+)--([\w.-]+)")
MAX_PATH_LENGTH = 4096
PRIVATE_KEYS = KEYS_WITHOUT_EFFECT_ON_RESULT - {"output_dir"}


@dataclass(frozen=True)
class Publication:
    """Files by their names in the repository; texts made fit to be read by others are bytes, all else paths."""

    kind: Kind
    files: dict[str, Content]


def kind_of(directory: Path) -> Kind:
    """Whether a directory holds an adapter or a model.

    Raises:
        ValueError: Neither.
    """
    if (directory / ADAPTER_CONFIG).is_file():
        return "adapter"
    if (directory / MODEL_CONFIG).is_file():
        return "model"
    raise ValueError(
        f"`{directory}` holds no adapter ({ADAPTER_CONFIG}) and no model ({MODEL_CONFIG}). Give the output directory "
        "of a run, or what `llm-jepa merge` wrote."
    )


def hub_id(name: str) -> str | None:
    """The Hub id that a model or data set goes by, as far as its name tells; None for a file or directory here."""
    known = find_known_model(name)
    if known is not None:
        return known.hub_id
    cached = CACHED_MODEL.search(name)
    if cached:
        return "/".join(cached.groups())
    is_here = Path(name).expanduser().exists()
    return name if HUB_ID.fullmatch(name) and not is_here else None


def gather(directory: Path, settings: Mapping[str, Any], replaced: Mapping[str, str]) -> Publication:
    """The weights, tokenizer and recipe of a directory; neither checkpoints nor predictions nor optimizer states.

    Args:
        settings: The run's recipe; empty if there is none.
        replaced: Recipe key -> its public value: of base, data and output directory.

    Raises:
        ValueError: The directory holds neither adapter nor model, or no weights.
    """
    kind = kind_of(directory)
    found = {path.name: path for pattern in (*WEIGHTS[kind], *TOKENIZER) for path in directory.glob(pattern)}
    if not any(name.endswith(".safetensors") for name in found):
        raise ValueError(f"`{directory}` holds no weights (*.safetensors). Save the model as safetensors.")
    files: dict[str, Content] = dict(found)
    for name, path in found.items():
        if path.suffix == ".json" and name not in VOCABULARIES:
            content = json.loads(path.read_text(encoding="utf-8"))
            public = without_paths(content)
            if name == ADAPTER_CONFIG:
                public["base_model_name_or_path"] = replaced["model_name_or_path"]
            if public != content:
                files[name] = (json.dumps(public, indent=2, ensure_ascii=False) + "\n").encode()
    if settings:
        files[RECIPE_FILE] = recipe_text(public_settings(settings, replaced)).encode()
    return Publication(kind, dict(sorted(files.items())))


def public_settings(settings: Mapping[str, Any], replaced: Mapping[str, str]) -> dict[str, Any]:
    """A recipe for others: no tokens, trackers, places to publish; a path keeps its last part alone."""
    kept = {key: value for key, value in settings.items() if not key.startswith("hub_") and key not in PRIVATE_KEYS}
    public = {key: value if key == "system_prompt" else without_paths(value) for key, value in kept.items()}
    return public | {key: value for key, value in replaced.items() if key in settings}


def without_paths(value: Any) -> Any:
    """A value of JSON in which each text that is a path of a machine is its last part."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return _last_part(value) if isinstance(value, str) and _is_path(value) else value


def _is_path(text: str) -> bool:
    if "\n" in text or len(text) >= MAX_PATH_LENGTH:
        return False
    is_absolute = bool(PureWindowsPath(text).drive) or (text.startswith("/") and text.count("/") > 1)
    return is_absolute or text.startswith(("~/", "./", "../")) or ("/" in text and Path(text).exists())


def _last_part(path: str) -> str:
    return PureWindowsPath(path).name if PureWindowsPath(path).drive else Path(path).name


def refuse_leaks(files: Mapping[str, Content], directory: Path, token: str | None) -> None:
    """A last look at every text before it is published.

    Raises:
        ValueError: One holds the token, or the path of the home directory, of the published one or of the current.
    """
    places = {str(path) for path in (Path.home(), directory.resolve(), Path.cwd()) if len(path.parts) > 1}
    for name, content in files.items():
        if isinstance(content, Path) and content.suffix == ".safetensors":
            continue
        text = (content if isinstance(content, bytes) else content.read_bytes()).decode("utf-8", errors="replace")
        if token and token in text:
            raise ValueError(f"`{name}` holds your Hub token. Nothing was published: take it out of the file.")
        found = [place for place in places if place in text] if name not in VOCABULARIES else []
        if found:
            raise ValueError(
                f"`{name}` holds a path of this machine, {found[0]}. Nothing was published: take it out of the file."
            )
