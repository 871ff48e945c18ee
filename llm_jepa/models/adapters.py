"""An adapter: found here or on the Hub, what it says of its base, and put on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from peft import PeftConfig, PeftModel
from peft.utils import CONFIG_NAME as ADAPTER_CONFIG
from peft.utils import SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils import CONFIG_NAME as MODEL_CONFIG

from llm_jepa.files.hub_errors import hub_errors_explained
from llm_jepa.models.known_models import HUB_TIMEOUT_SECONDS, find_known_model
from llm_jepa.runs.record import read_json, read_run

ADAPTER_WEIGHTS = (SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME)
TRUSTED_RECIPE_KEYS = frozenset(
    {"dtype", "bf16", "fp16", "load_in_4bit", "load_in_8bit", "use_bnb_nested_quant", "use_peft"}
)
"""What a pulled recipe may say of how its base is loaded (and `bnb_4bit_*`): nothing that could name or run code."""


@dataclass(frozen=True)
class Adapter:
    """Its directory and, in the words of a recipe, what its base is and how it is loaded."""

    directory: Path
    base_settings: dict[str, Any]


def find_adapter(name: str) -> Adapter | None:
    """The adapter in a directory or, fetched, of a Hub id; None where there is something else or nothing.

    A run's own recipe is believed in all. Of what comes from the Hub, base and revision are those of the adapter's
    configuration, as PEFT would take them; its recipe adds precision and quantisation alone.

    Raises:
        ValueError: The Hub refuses or fails, or a file cannot be read.
    """
    directory = Path(name)
    if (directory / ADAPTER_CONFIG).is_file():
        return Adapter(directory, base_settings_of(directory) | read_run(directory).settings)
    if directory.exists() or name.count("/") != 1 or find_known_model(name) is not None:
        return None
    with hub_errors_explained(name, "read"):
        if not _is_adapter_on_hub(name):
            return None
        directory = Path(snapshot_download(name))
    settings = read_run(directory).settings
    safe = {key: value for key, value in settings.items() if key in TRUSTED_RECIPE_KEYS or key.startswith("bnb_4bit_")}
    return Adapter(directory, safe | base_settings_of(directory))


def _is_adapter_on_hub(name: str) -> bool:
    """Whether the Hub has an adapter of this id, or, if it does not answer, whether the cache has."""
    try:
        info = HfApi().model_info(name, timeout=HUB_TIMEOUT_SECONDS)
    except HfHubHTTPError:
        raise
    except (HTTPError, ConnectionError):
        cached = {file: isinstance(try_to_load_from_cache(name, file), str) for file in (ADAPTER_CONFIG, MODEL_CONFIG)}
        if not any(cached.values()):
            raise
        return cached[ADAPTER_CONFIG]
    return ADAPTER_CONFIG in {sibling.rfilename for sibling in info.siblings or []}


def base_settings_of(directory: Path) -> dict[str, Any]:
    """What an adapter's configuration says of its base; empty where there is none.

    Raises:
        ValueError: The configuration cannot be read.
    """
    config = read_json(directory / ADAPTER_CONFIG)
    named = {"model_name_or_path": config.get("base_model_name_or_path"), "model_revision": config.get("revision")}
    return {key: value for key, value in named.items() if value}


def load_adapter(base: PreTrainedModel, directory: Path) -> PeftModel:
    """Put an adapter on its base.

    Raises:
        ValueError: Its weights are missing or broken, or made for a base of another shape.
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
            f"The adapter in `{directory}` cannot be put on {base.name_or_path!r}: {error}. Its files are broken, or "
            "it was trained on another base."
        ) from error


def read_adapter_config(directory: Path) -> PeftConfig:
    """The configuration of an adapter, as PEFT has it.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        return PeftConfig.from_pretrained(str(directory))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"`{directory / ADAPTER_CONFIG}` is no adapter's configuration: {error}.") from error


def resize_embeddings(model: PreTrainedModel, num_tokens: int) -> None:
    """Give a model rows for tokens that its run has added (`chat_template_path` of a model does).

    An adapter brings rows of its own for them. A base has none: its rows are drawn around the mean of the others, the
    same in every process.
    """
    embeddings: Any = model.get_input_embeddings()
    if num_tokens > embeddings.weight.shape[0]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model.resize_token_embeddings(num_tokens)
