"""Loads models and tokenizers with transformers, and explains its errors to the user."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from huggingface_hub.errors import HTTPError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
)
from transformers.integrations import (
    is_deepspeed_zero3_enabled,
    set_hf_deepspeed_config,
    unset_hf_deepspeed_config,
)

from llm_jepa.models.known_models import KNOWN_MODELS, resolve_model
from llm_jepa.recipe import Recipe

SAMPLING_FIELDS = ("temperature", "top_k", "top_p", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


def load_tokenizer(
    name_or_path: str, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of a directory, a Hub id or a known model.

    Raises:
        ValueError: It cannot be loaded.
    """
    path = resolve_model(name_or_path, revision)
    try:
        return AutoTokenizer.from_pretrained(path, revision=revision or "main", trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"No tokenizer could be loaded from {path!r}. Give a directory with its files (tokenizer.json), a Hub "
            f"id, or a known model: {', '.join(KNOWN_MODELS)}. The reason was: {error}"
        ) from error


def drop_idle_sampling(model: PreTrainedModel) -> None:
    """Remove sampling settings where `do_sample` is false: transformers loads such models but refuses to save them."""
    config = model.generation_config
    if config is not None and not config.do_sample:
        for name in SAMPLING_FIELDS:
            setattr(config, name, None)


@contextmanager
def load_errors_explained(what: str) -> Iterator[None]:
    """Raise a `ValueError` that names the weights that could not be loaded; the original error is its cause.

    Raises:
        ValueError: Loading failed.
    """
    try:
        yield
    except (OSError, ValueError, ImportError, NotImplementedError, HTTPError) as error:
        code = "Allow code of its own with `trust_remote_code`." if "trust_remote_code" in str(error) else ""
        raise ValueError(f"{what} cannot be loaded: {error} {code}".rstrip()) from error


def model_init_kwargs(recipe: Recipe) -> dict[str, Any]:
    """Keyword arguments to load the model: the recipe's model settings, overridden by its `model_init_kwargs`."""
    model = recipe.model
    from_model_settings = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
    }
    return from_model_settings | (recipe.settings.get("model_init_kwargs") or {})


def on_one_device(settings: dict[str, Any] | None, device: torch.device) -> dict[str, Any] | None:
    """Keyword arguments to load a model, with the device of the process unless they name one.

    TRL loads with `device_map: auto` on GPUs, which puts layers that do not fit on other devices or on the CPU.
    """
    if device.type in ("cpu", "mps"):
        return settings
    return {"device_map": str(device)} | (settings or {})


def config_of(model: str | PreTrainedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a model that is loaded, or will be with these settings; empty for a GGUF."""
    if not isinstance(model, str):
        return model.config.to_dict()
    if "gguf_file" in settings:
        return {}
    places = {key: settings[key] for key in ("revision", "subfolder") if settings.get(key) is not None}
    return PretrainedConfig.get_config_dict(model, **places)[0]


def model_config(recipe: Recipe, model_path: str) -> PretrainedConfig:
    """The configuration of the recipe's model."""
    settings = model_init_kwargs(recipe)
    del settings["attn_implementation"]  # its kernels need not be installed here
    if settings["dtype"] == "auto":
        del settings["dtype"]  # it stands in the configuration
    return AutoConfig.from_pretrained(model_path, trust_remote_code=recipe.training.trust_remote_code, **settings)


def position_limit(config: PretrainedConfig) -> int | None:
    """Longest sequence of a model in tokens; None if its config sets no limit."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


@contextmanager
def unpartitioned(args: TrainingArguments) -> Iterator[None]:
    """Build models whole meanwhile: ZeRO-3 partitions their data, and a model on the meta device has none."""
    if not is_deepspeed_zero3_enabled():
        yield
        return
    plugin_config = getattr(args.deepspeed_plugin, "dschf", None)  # of a launcher; else of the recipe's `deepspeed`
    config = args.hf_deepspeed_config if plugin_config is None else plugin_config
    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        set_hf_deepspeed_config(config)


def meta_model(recipe: Recipe, model_path: str) -> PreTrainedModel:
    """The recipe's model on the meta device, built from its config: names and shapes, no weights."""
    config, attention = model_config(recipe, model_path), model_init_kwargs(recipe)["attn_implementation"]
    with unpartitioned(recipe.training), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=recipe.training.trust_remote_code)
    if attention is not None:
        model.config._attn_implementation = attention  # set directly: its kernels need not be installed here
    return model
