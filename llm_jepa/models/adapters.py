"""Finds an adapter in a directory or on the Hub, reads what it says about its base, and loads it onto the base."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from peft import PeftConfig, PeftModel
from peft.utils import SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME
from safetensors import SafetensorError
from transformers import PreTrainedModel

from llm_jepa.files.hub_errors import hub_errors_explained
from llm_jepa.models.known_models import HUB_TIMEOUT_SECONDS, find_known_model
from llm_jepa.models.latent_predictor import PREDICTOR_FILES
from llm_jepa.models.local_files import ADAPTER_CONFIG, MODEL_CONFIG, TOKENIZER_FILES, matches_one_of
from llm_jepa.runs.record import (
    ENVIRONMENT_FILE,
    PROMPTS_FILE,
    RECIPE_FILE,
    SCORES_FILES,
    STATE_FILE,
    read_json,
    read_run,
    settings_of_run,
)

ADAPTER_WEIGHTS = (SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME)
"""The files of weights that PEFT reads: the first that is there."""
NEEDED_FILES = (
    ADAPTER_CONFIG,
    MODEL_CONFIG,
    *TOKENIZER_FILES,
    RECIPE_FILE,
    STATE_FILE,
    ENVIRONMENT_FILE,
    PROMPTS_FILE,
    *SCORES_FILES.values(),
    *PREDICTOR_FILES,
)
"""What is downloaded of an adapter beside its weights: configuration, tokenizer, record of its run, predictor."""
TRUSTED_RECIPE_KEYS = frozenset(
    {"dtype", "bf16", "fp16", "load_in_4bit", "load_in_8bit", "use_bnb_nested_quant", "use_peft"}
)
"""Keys of a downloaded recipe that are used to load its base (with `bnb_4bit_*`); none of them can run code."""


@dataclass(frozen=True)
class Adapter:
    """An adapter's directory, and the recipe settings that name and load its base."""

    directory: Path
    base_settings: dict[str, Any]


def find_adapter(name: str) -> Adapter | None:
    """The adapter in a directory or of a Hub id, which is downloaded; None if there is no adapter.

    All settings of a local run's recipe are used. An adapter from the Hub takes base and revision from its
    configuration, as PEFT does, and only precision and quantisation from its recipe.

    Raises:
        ValueError: The Hub refuses or fails, or a file cannot be read.
    """
    directory = Path(name)
    if (directory / ADAPTER_CONFIG).is_file():
        return Adapter(directory, base_settings_of(directory) | read_run(directory).settings)
    if directory.exists() or name.count("/") != 1 or find_known_model(name) is not None:
        return None
    with hub_errors_explained(name, "read"):
        files = _files_on_hub(name)
        if ADAPTER_CONFIG not in files:
            return None
        directory = Path(snapshot_download(name, allow_patterns=_needed_files(files)))
    settings = settings_of_run(directory)
    safe = {key: value for key, value in settings.items() if key in TRUSTED_RECIPE_KEYS or key.startswith("bnb_4bit_")}
    return Adapter(directory, safe | base_settings_of(directory))


def _files_on_hub(name: str) -> set[str]:
    """The files of a Hub id; if the Hub does not answer, those of its configurations that are in the cache."""
    try:
        info = HfApi().model_info(name, timeout=HUB_TIMEOUT_SECONDS)
    except HfHubHTTPError:
        raise
    except (HTTPError, ConnectionError):
        cached = {
            file for file in (ADAPTER_CONFIG, MODEL_CONFIG) if isinstance(try_to_load_from_cache(name, file), str)
        }
        if not cached:
            raise
        return cached
    return {sibling.rfilename for sibling in info.siblings or []}


def _needed_files(files: Collection[str]) -> list[str]:
    """Those of an adapter's files that are used: not its checkpoints, other formats and copies of its weights."""
    weights = [file for file in ADAPTER_WEIGHTS if file in files]
    return weights[:1] + [file for file in files if matches_one_of(file, NEEDED_FILES)]


def base_settings_of(directory: Path) -> dict[str, Any]:
    """The base that an adapter's configuration names, as recipe settings; empty without a configuration.

    Raises:
        ValueError: The configuration cannot be read.
    """
    config = read_json(directory / ADAPTER_CONFIG)
    named = {"model_name_or_path": config.get("base_model_name_or_path"), "model_revision": config.get("revision")}
    return {key: value for key, value in named.items() if value}


def load_adapter(base: PreTrainedModel, directory: Path) -> PeftModel:
    """Load an adapter onto its base.

    Raises:
        ValueError: Its weights are missing or broken, or belong to a base of another shape.
    """
    if not any((directory / name).is_file() for name in ADAPTER_WEIGHTS):
        raise ValueError(
            f"The adapter in `{directory}` has no weights ({ADAPTER_WEIGHTS[0]}). Fetch or save it again."
        )
    try:
        return PeftModel.from_pretrained(base, str(directory))
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(
            f"The adapter in `{directory}` cannot be loaded onto {base.name_or_path!r}: {error}. Its files are "
            "broken, or it was trained on another base."
        ) from error


def without_adapter(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The causal LM in an adapter's wrapper, or a model that has none. The adapter's layers stay in it."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(inner, PreTrainedModel)
    return inner


def read_adapter_config(directory: Path) -> PeftConfig:
    """PEFT's configuration of an adapter.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        return PeftConfig.from_pretrained(str(directory))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"`{directory / ADAPTER_CONFIG}` is not an adapter's configuration: {error}.") from error


def resize_embeddings(model: PreTrainedModel, num_tokens: int) -> None:
    """Give a base the embedding rows of tokens that its run added (`chat_template_path` can add tokens).

    The new rows are drawn around the mean of the others, the same in every process. An adapter brings its own rows.
    """
    embeddings: Any = model.get_input_embeddings()
    if num_tokens > embeddings.weight.shape[0]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model.resize_token_embeddings(num_tokens)
