"""Selects the files of a directory to publish, and removes paths, names and tokens of this machine from them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from llm_jepa.models.decoder_files import ANSWER_FOLDER, FACTS_FILE, FOLDER, PREFIX_FILE, QUESTION_FOLDER
from llm_jepa.models.known_models import fetched_model, find_known_model
from llm_jepa.models.latent_predictor import PREDICTOR_FILES, has_latent_predictor
from llm_jepa.models.local_files import (
    ADAPTER_CONFIG,
    MODEL_CONFIG,
    TOKENIZER_FILES,
    ArtifactKind,
    artifact_kind,
    matches_one_of,
)
from llm_jepa.runs.record import (
    KEYS_WITHOUT_EFFECT_ON_RESULT,
    PLAIN_PROMPTS_KEY,
    PROMPTS_FILE,
    RECIPE_FILE,
    has_plain_prompts,
    read_json,
)
from llm_jepa.settings.reading import recipe_text
from llm_jepa.settings.schema import PATH_OR_MAPPING
from llm_jepa.settings.secrets import find_secrets
from llm_jepa.settings.vision_checks import PARTS

Content = Path | bytes

WEIGHT_FILES: dict[ArtifactKind, tuple[str, ...]] = {
    "adapter": (ADAPTER_CONFIG, "adapter_model.safetensors"),
    "model": (
        MODEL_CONFIG,
        "generation_config.json",
        "model*.safetensors",
        "model.safetensors.index.json",
        "configuration_*.py",
        "modeling_*.py",
    ),
    "vision": (
        MODEL_CONFIG,
        "model*.safetensors",
        "model.safetensors.index.json",
        "preprocessor_config.json",
        *(f"{folder}/{name}" for folder in (QUESTION_FOLDER, ANSWER_FOLDER, FOLDER) for name in TOKENIZER_FILES),
        *(f"{FOLDER}/{name}" for name in (MODEL_CONFIG, "generation_config.json", "model*.safetensors")),
        f"{FOLDER}/{PREFIX_FILE}",
        f"{FOLDER}/{FACTS_FILE}",
    ),
}
CARD_FILE = "README.md"
RESULTS_FILE = ".eval_results/llm-jepa.yaml"
VOCABULARY_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")
"""Their tokens may look like paths and secrets, so they are searched for the Hub token alone."""

HUB_ID = re.compile(r"[\w][\w.-]*(/[\w.-]+)?")
CACHED_MODEL = re.compile(r"models--([\w.-]+)--([\w.-]+)")
PATH_KEY = re.compile(r".*_(path|dir|file|folder)")
"""Keys that hold a path, in recipes and in the configurations of models and tokenizers."""
FILE_KEYS = frozenset({"excluded_rows", "jepa_objective"})
"""Further keys of recipes that may hold one: of a file of row indices, and of an objective as `FILE.py:CLASS`."""
WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\")
PRIVATE_KEYS = KEYS_WITHOUT_EFFECT_ON_RESULT - {"output_dir"} | {"feature_cache"}


@dataclass(frozen=True)
class Publication:
    """Files by their names in the repository: bytes where the text was changed for publication, else paths."""

    kind: ArtifactKind
    files: dict[str, Content]


def hub_id(name: str, is_local: bool | None = None) -> str | None:
    """The Hub id of a model or data set, judged by its name; None for a file or directory.

    `is_local` says whether the name was a file or directory where it was used; None: check on this machine.
    """
    known = find_known_model(name) or fetched_model(name)
    if known is not None:
        return known.hub_id
    cached = CACHED_MODEL.search(name)
    if cached:
        return "/".join(cached.groups())
    if is_local is None:
        is_local = Path(name).expanduser().exists()
    return name if HUB_ID.fullmatch(name) and not is_local else None


def is_written_by_push(name: str, kind: ArtifactKind) -> bool:
    """Whether a push writes files of this name. Those that it no longer writes are outdated."""
    ours = (RESULTS_FILE, RECIPE_FILE, PROMPTS_FILE, *PREDICTOR_FILES)
    return matches_one_of(name, (*WEIGHT_FILES[kind], *TOKENIZER_FILES, *ours))


def gather_files(
    directory: Path,
    settings: Mapping[str, Any],
    public_values: Mapping[str, str | None],
    without_predictor: bool = False,
) -> Publication:
    """The weights, tokenizers, latent predictor, text decoder, recipe and form of prompts of a directory.

    Checkpoints, predictions and optimizer states are left out.

    Args:
        settings: The run's recipe; empty without one.
        public_values: Recipe key -> its public value, None to leave it out: base, revision, data, output directory.
        without_predictor: Whether to leave out the latent predictor.

    Raises:
        ValueError: The directory holds neither adapter nor model, or no weights, or a file that cannot be read.
    """
    kind = artifact_kind(directory)
    found = {
        path.relative_to(directory).as_posix(): path
        for pattern in (*WEIGHT_FILES[kind], *TOKENIZER_FILES)
        for path in directory.glob(pattern)
    }
    if not any(name.endswith(".safetensors") for name in found):
        raise ValueError(f"`{directory}` holds no weights (*.safetensors). Save the model as safetensors.")
    if has_latent_predictor(directory) and not without_predictor:
        found |= {name: directory / name for name in PREDICTOR_FILES}
    files: dict[str, Content] = dict(found)
    for name, path in found.items():
        if path.suffix == ".json" and path.name not in VOCABULARY_FILES:
            content = read_json(path)
            public = strip_paths(_with_public_parts(content, settings, public_values))
            if name == ADAPTER_CONFIG:
                public["base_model_name_or_path"] = public_values["model_name_or_path"]
                public["revision"] = public_values["model_revision"]
            if name == PREDICTOR_FILES[0] and settings:
                public["base_name_or_path"] = public_values["model_name_or_path"]
                public["base_revision"] = public_values["model_revision"]
            if public != content:
                files[name] = (json.dumps(public, indent=2, ensure_ascii=False) + "\n").encode()
    if settings:
        files[RECIPE_FILE] = recipe_text(public_settings(settings, public_values)).encode()
        is_plain = has_plain_prompts(directory)
        if is_plain is not None and kind != "vision":
            files[PROMPTS_FILE] = (json.dumps({PLAIN_PROMPTS_KEY: is_plain}) + "\n").encode()
    return Publication(kind, dict(sorted(files.items())))


def public_settings(settings: Mapping[str, Any], public_values: Mapping[str, str | None]) -> dict[str, Any]:
    """A recipe without tokens, trackers and Hub settings; of a path, the last part remains."""
    kept = {key: value for key, value in settings.items() if not key.startswith("hub_") and key not in PRIVATE_KEYS}
    public = strip_paths(kept) | {key: value for key, value in public_values.items() if key in settings}
    return {key: value for key, value in public.items() if value is not None or key not in public_values}


def _with_public_parts(value: Any, settings: Mapping[str, Any], public_values: Mapping[str, str | None]) -> Any:
    """A JSON value in which the parts of a VL-JEPA model have the names that others may see."""
    if not isinstance(value, dict):
        return value
    return {
        key: public_values.get(key) if key in PARTS and item == settings.get(key)
        else _with_public_parts(item, settings, public_values)
        for key, item in value.items()
    }  # fmt: skip


def strip_paths(value: Any, key: str = "") -> Any:
    """A JSON value with each path replaced by its last part or by a Hub id.

    Only texts under keys that hold paths are replaced, also within a list. Other texts that look like a path may be a
    template, a prompt, a token or a pattern. `key` is the value's own.
    """
    if isinstance(value, list):
        return [strip_paths(item, key) for item in value]
    if isinstance(value, dict):
        return {name: strip_paths(item, name) for name, item in value.items()}
    return _public_path(key, value) if isinstance(value, str) and _holds_path(key) else value


def _holds_path(key: str) -> bool:
    return bool(PATH_KEY.fullmatch(key)) or key in PATH_OR_MAPPING or key in PARTS or key in FILE_KEYS


def _public_path(key: str, path: str) -> str:
    public_id = hub_id(path) if key.endswith("name_or_path") or key in PARTS else None
    last_part = PureWindowsPath(path).name if WINDOWS_PATH.match(path) else Path(path).name
    return public_id or last_part or path


def refuse_leaks(files: Mapping[str, Content], directory: Path, token: str | None) -> None:
    """Check every text before it is published.

    A directory directly under the root, such as `/data` or `/root`, is allowed: it reveals nothing, and links and
    templates contain such texts.

    Raises:
        ValueError: A text holds the token, another secret, or the path of the home, published or current directory.
    """
    places = {str(path) for path in (Path.home(), directory.resolve(), Path.cwd()) if len(path.parts) > 2}
    named = re.compile("|".join(rf"(?<![\w.-]){re.escape(place)}(?![\w-])" for place in sorted(places)) or r"(?!)")
    for name, content in files.items():
        if isinstance(content, Path) and content.suffix == ".safetensors":
            continue
        text = (content if isinstance(content, bytes) else content.read_bytes()).decode("utf-8", errors="replace")
        if token and token in text:
            raise ValueError(f"`{name}` holds your Hub token. Nothing was published. Remove the token from the file.")
        if Path(name).name in VOCABULARY_FILES:
            continue
        for place in find_secrets([json.loads(text) if name.endswith(".json") else text]):
            where = f" under `{place}`" if place else ""
            raise ValueError(f"`{name}` holds a secret{where}. Nothing was published. Remove it from the file.")
        found = named.search(text)
        if found:
            raise ValueError(
                f"`{name}` holds a path of this machine, {found[0]}. Nothing was published. Remove it from the file."
            )
