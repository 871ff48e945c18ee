"""The two checkpoints of a recipe: the base model it starts from, and the tuned one its run produced."""

import gc
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel
from trl import get_quantization_config

from llm_jepa.models.adapters import load_adapter, resize_embeddings
from llm_jepa.models.checkpoint_choice import Checkpoint, is_adapter
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.loading import load_errors_explained
from llm_jepa.models.source import OTHER_WEIGHT_SETTINGS
from llm_jepa.models.trainable_weights import keep_4_bit_weights_unpacked
from llm_jepa.recipe import Recipe


def load_checkpoints(
    recipe: Recipe, checkpoints: Sequence[Checkpoint], num_tokens: int
) -> Iterator[tuple[Checkpoint, str, PreTrainedModel | PeftModel]]:
    """Load the models one at a time: checkpoint, location, model. A base with an adapter is read once.

    `num_tokens` is the size of the run's tokenizer, which may be larger than the base's.

    Raises:
        ValueError: The adapter cannot be loaded onto the base.
    """
    base_location = resolve_model(recipe.settings["model_name_or_path"], recipe.model.model_revision)
    output_dir = str(recipe.output_dir)
    adapter = "tuned" in checkpoints and is_adapter(recipe.output_dir)
    base = None
    if "base" in checkpoints or adapter:
        base = _load_weights(recipe, base_location)
        resize_embeddings(base, num_tokens)
    if base is not None and "base" in checkpoints:
        yield "base", base_location, base
    if base is not None and adapter:
        yield "tuned", output_dir, load_adapter(base, recipe.output_dir)
    elif "tuned" in checkpoints:
        del base
        gc.collect()
        yield "tuned", output_dir, _load_weights(recipe, output_dir)


def weights_dtype(recipe: Recipe) -> Any:
    """The precision of training: bf16 or fp16 if the recipe sets it, else `dtype`."""
    training = recipe.training
    return torch.bfloat16 if training.bf16 else torch.float16 if training.fp16 else recipe.model.dtype


def set_precision(recipe: Recipe, dtype: str | None) -> None:
    """Have a recipe's weights loaded in a precision; None leaves that of training."""
    if dtype is not None:
        recipe.training.bf16 = recipe.training.fp16 = False
        recipe.model.dtype = dtype


def precision_name(recipe: Recipe) -> str:
    """The precision of the loaded weights in words, such as `bfloat16` or `bfloat16, load_in_4bit`."""
    dtype = str(weights_dtype(recipe) or "auto").removeprefix("torch.")
    quantised = [name for name in ("load_in_4bit", "load_in_8bit") if getattr(recipe.model, name)]
    return ", ".join([dtype, *quantised])


def _load_weights(recipe: Recipe, location: str) -> PreTrainedModel:
    model, training = recipe.model, recipe.training
    kwargs = {
        "revision": model.model_revision,
        "trust_remote_code": training.trust_remote_code,
        "attn_implementation": model.attn_implementation,
        "device_map": {"": training.device},
    }
    given = recipe.settings.get("model_init_kwargs") or {}
    is_own = location == str(recipe.output_dir)  # what says which of the base's files to read is not of the run's
    kwargs |= {key: value for key, value in given.items() if not (is_own and key in OTHER_WEIGHT_SETTINGS)}
    kwargs["dtype"] = weights_dtype(recipe)
    quantization = None if is_own else get_quantization_config(model)  # TRL trains adapters alone on 4 bits
    if quantization is not None:  # None would override a checkpoint's own quantisation
        kwargs["quantization_config"] = quantization
    with load_errors_explained(f"The model {location!r}"):
        weights = AutoModelForCausalLM.from_pretrained(location, **kwargs)
    keep_4_bit_weights_unpacked(weights)
    return weights
