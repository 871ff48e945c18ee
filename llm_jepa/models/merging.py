"""`llm-jepa merge`: merges an adapter into the weights of its base; the result is a plain model."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from trl import ModelConfig, get_quantization_config

from llm_jepa.files.staged import make_readable, staged_directory
from llm_jepa.models.adapters import Adapter, find_adapter, load_adapter, read_adapter_config, resize_embeddings
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.latent_predictor import copy_latent_predictor
from llm_jepa.models.loading import drop_idle_sampling, load_errors_explained, load_tokenizer
from llm_jepa.models.local_files import ADAPTER_CONFIG, check_merge, not_an_adapter
from llm_jepa.models.stop_tokens import stop_token_ids
from llm_jepa.models.trainable_weights import keep_4_bit_weights_unpacked
from llm_jepa.runs.record import copy_run

logger = logging.getLogger(__name__)


def merge(
    name: str,
    output_dir: Path,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    without_predictor: bool = False,
) -> None:
    """Merge an adapter into its base and write the model, its tokenizer and its stop tokens to `output_dir`.

    W' = W + scale * B A, on the CPU, in the precision of the recipe's `dtype` (TRL's default is float32). A base that
    was quantised in training is quantised in the same way and then dequantised: the adapter was trained on these
    weights. The record of a run is copied to the folder `run`, for the model's card, and so is `latent_predictor/`.

    Args:
        name: A run's output directory, an adapter's directory, or its Hub id.
        output_dir: A new or empty directory. It is written completely or not at all.
        dtype: `float32`, `bfloat16` or `float16`, in place of the recipe's. 16 bits round the sums; float32 does not.
        trust_remote_code: Whether code of the base or the tokenizer may run; a recipe cannot set it.
        without_predictor: Whether to leave out the run's latent predictor.

    Raises:
        ValueError: There is no adapter that can be merged, `output_dir` is not empty, or the base cannot be loaded.
    """
    check_merge(name, output_dir)
    adapter = find_adapter(name)
    if adapter is None:
        raise ValueError(not_an_adapter(name))
    config = read_adapter_config(adapter.directory)
    if config.is_prompt_learning:
        raise ValueError(
            f"{name!r} is a prompt-learning adapter: it changes no weights and cannot be merged. Load it with PEFT, "
            "together with its base."
        )
    tokenizer = load_tokenizer(str(adapter.directory), None, trust_remote_code)
    model = _merged(adapter, len(tokenizer), dtype, trust_remote_code)
    _set_stop_tokens(model, tokenizer)
    drop_idle_sampling(model)
    with staged_directory(output_dir) as staging:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        copy_run(adapter.directory, staging)
        if not without_predictor:
            copy_latent_predictor(adapter.directory, staging)
        make_readable(staging)


def _merged(adapter: Adapter, num_tokens: int, dtype: str | None, trust_remote_code: bool) -> PreTrainedModel:
    base = _load_base(adapter.base_settings, trust_remote_code)
    resize_embeddings(base, num_tokens)
    if dtype is not None:
        base = base.to(getattr(torch, dtype))
    was_tied = base.config.get_text_config().tie_word_embeddings
    adapted = load_adapter(base, adapter.directory)
    if was_tied:
        untie_adapted_embeddings(base)
    model = adapted.merge_and_unload()
    if was_tied:
        _tie_equal_embeddings(model)
    return model


def _load_base(settings: dict[str, Any], trust_remote_code: bool) -> PreTrainedModel:
    name = settings.get("model_name_or_path")
    if name is None:
        raise ValueError(f"The adapter's {ADAPTER_CONFIG} names no base. Write its `base_model_name_or_path` there.")
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    model_settings = ModelConfig(**{key: value for key, value in settings.items() if key in known})
    kwargs: dict[str, Any] = {"revision": model_settings.model_revision, "device_map": {"": "cpu"}}
    kwargs |= settings.get("model_init_kwargs") or {}
    kwargs |= {
        "dtype": model_settings.dtype,
        "attn_implementation": "eager",  # that of training need not be installed here
        "trust_remote_code": trust_remote_code,
    }
    quantization = get_quantization_config(model_settings)
    if quantization is not None:  # None would override a checkpoint's own quantisation
        kwargs["quantization_config"] = quantization
    with load_errors_explained(f"The adapter's base {name!r}"):
        base = AutoModelForCausalLM.from_pretrained(resolve_model(name, model_settings.model_revision), **kwargs)
        if getattr(base, "hf_quantizer", None) is not None:
            keep_4_bit_weights_unpacked(base)
            base = base.dequantize(base.dtype)
            # Saving would try to restore the checkpoint's own quantisation, which is not possible.
            base._weight_conversions = None
    return base


def untie_adapted_embeddings(base: PreTrainedModel) -> None:
    """Untie adapted embeddings, so that merging changes only the adapted one of them."""
    inputs, outputs = base.get_input_embeddings(), base.get_output_embeddings()
    if outputs is None or not any(isinstance(one, BaseTunerLayer | ModulesToSaveWrapper) for one in (inputs, outputs)):
        return
    head: Any = outputs.get_base_layer() if isinstance(outputs, BaseTunerLayer) else outputs
    if isinstance(head, ModulesToSaveWrapper):
        head = head.original_module
    head.weight = nn.Parameter(head.weight.detach().clone())


def _tie_equal_embeddings(model: PreTrainedModel) -> None:
    """After the merge, tie the embeddings again if they are still equal; otherwise both are stored."""
    inputs: Any = model.get_input_embeddings()
    outputs: Any = model.get_output_embeddings()
    is_tied = outputs is None or torch.equal(inputs.weight, outputs.weight)
    if outputs is not None:
        outputs.weight = inputs.weight if is_tied else nn.Parameter(outputs.weight.detach().clone())
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = is_tied
    if not is_tied:
        logger.info("The adapter changes one of the tied embeddings: the merged model stores both.")


def _set_stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Store the stop tokens of training and evaluation in the model's generation config."""
    stop_ids = stop_token_ids(model.generation_config, tokenizer)
    model.generation_config.eos_token_id = stop_ids[0] if len(stop_ids) == 1 else stop_ids or None
    if model.generation_config.pad_token_id is None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
