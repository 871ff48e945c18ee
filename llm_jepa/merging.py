"""`llm-jepa merge`: an adapter put into the weights of its base, as a plain model."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import CONFIG_NAME as ADAPTER_CONFIG
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import find_adapter_config_file
from trl import ModelConfig, get_quantization_config

from llm_jepa.generation import stop_token_ids
from llm_jepa.modeling import load_tokenizer, resolve_model
from llm_jepa.preparers.output import staged_directory
from llm_jepa.run_record import copy_run, read_run
from llm_jepa.trainable_weights import keep_4_bit_weights_unpacked

logger = logging.getLogger(__name__)


def adapter_directory(name: str) -> Path | None:
    """The local directory of an adapter, fetched from the Hub if it is there; None for anything else."""
    if (Path(name) / ADAPTER_CONFIG).is_file():
        return Path(name)
    if Path(name).is_dir() or name.count("/") != 1 or find_adapter_config_file(name) is None:
        return None
    return Path(snapshot_download(name))


def merge(name: str, output_dir: Path, dtype: str | None = None) -> None:
    """Merge an adapter into its base and write the model, its tokenizer and its stop tokens to `output_dir`.

    W' = W + scale * B A, on the CPU, in the precision of the recipe's `dtype` (TRL's default is float32). A base that
    was quantised in training is quantised in the same way and then dequantised, since these are the weights that the
    adapter was trained on. Of a run its record is kept in the folder `run`, for the model's card.

    Args:
        name: A run's output directory, an adapter's directory, or its Hub id.
        output_dir: Not there yet, or empty. It is there whole or not at all.
        dtype: `float32`, `bfloat16` or `float16` in place of the recipe's. In 16 bits the sums are rounded, in float32
            they are kept.

    Raises:
        ValueError: There is no adapter, `output_dir` is not empty, or the base cannot be loaded.
    """
    if output_dir.is_file() or (output_dir.is_dir() and any(output_dir.iterdir())):
        raise ValueError(f"`output_dir: {output_dir}` is not empty. Nothing was overwritten: name another directory.")
    directory = adapter_directory(name)
    if directory is None:
        raise ValueError(
            f"{name!r} is no adapter: no {ADAPTER_CONFIG} there. Give a run trained with `use_peft: true`, an "
            "adapter's directory or its Hub id. A fully trained model needs no merging."
        )
    settings = read_run(directory).settings
    model = _merged(directory, settings, dtype)
    tokenizer = load_tokenizer(str(directory), None, settings.get("trust_remote_code", False))
    _set_stop_tokens(model, tokenizer)
    with staged_directory(output_dir) as staging:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        copy_run(directory, staging)
        for path in staging.glob("*.safetensors"):
            path.chmod(0o644)  # they come out readable by their owner alone


def _merged(directory: Path, settings: dict[str, Any], dtype: str | None) -> PreTrainedModel:
    config = PeftConfig.from_pretrained(str(directory))
    base = _load_base(settings.get("model_name_or_path") or str(config.base_model_name_or_path), settings)
    if dtype is not None:
        base = base.to(getattr(torch, dtype))
    adapted = PeftModel.from_pretrained(base, str(directory))
    _untie_adapted_embeddings(base)
    return adapted.merge_and_unload()


def _load_base(name: str, settings: dict[str, Any]) -> PreTrainedModel:
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    model_settings = ModelConfig(**{key: value for key, value in settings.items() if key in known})
    quantization = get_quantization_config(model_settings)
    kwargs: dict[str, Any] = {
        "revision": model_settings.model_revision,
        "trust_remote_code": settings.get("trust_remote_code", False),
        "quantization_config": quantization,
        "device_map": {"": "cpu"},
    }
    kwargs |= settings.get("model_init_kwargs") or {}
    kwargs |= {"dtype": model_settings.dtype, "attn_implementation": "eager"}  # the trained one need not be here
    location = resolve_model(name, model_settings.model_revision)
    try:
        base = AutoModelForCausalLM.from_pretrained(location, **kwargs)
    except OSError as error:
        raise ValueError(f"The adapter's base {name!r} cannot be loaded: {error}") from error
    if getattr(base, "hf_quantizer", None) is not None:
        keep_4_bit_weights_unpacked(base)
        base = base.dequantize(base.dtype)
    return base


def _untie_adapted_embeddings(base: PreTrainedModel) -> None:
    """Part tied embeddings that are adapted: what is merged into one of them must not be in the other."""
    inputs, outputs = base.get_input_embeddings(), base.get_output_embeddings()
    wrapped = [isinstance(one, BaseTunerLayer | ModulesToSaveWrapper) for one in (inputs, outputs)]
    if outputs is None or not base.config.get_text_config().tie_word_embeddings or not any(wrapped):
        return
    head: Any = outputs.get_base_layer() if isinstance(outputs, BaseTunerLayer) else outputs
    if isinstance(head, ModulesToSaveWrapper):
        head = head.original_module
    head.weight = nn.Parameter(head.weight.detach().clone())
    for config in (base.config, base.config.get_text_config()):
        config.tie_word_embeddings = False
    logger.info("The adapter changes one of the tied embeddings: the merged model stores both.")


def _set_stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """What ends a text in training and evaluation ends it for whoever loads the model."""
    stop_ids = stop_token_ids(model.generation_config, tokenizer)
    model.generation_config.eos_token_id = stop_ids[0] if len(stop_ids) == 1 else stop_ids or None
    if model.generation_config.pad_token_id is None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
