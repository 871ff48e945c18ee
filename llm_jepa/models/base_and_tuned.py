"""The two checkpoints of a recipe: the base model it starts from, and the tuned one its run produced."""

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from peft import PeftModel
from peft.utils import CONFIG_NAME as ADAPTER_CONFIG
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import CONFIG_NAME as MODEL_CONFIG
from trl import get_quantization_config

from llm_jepa.models.adapters import load_adapter, resize_embeddings
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.loading import load_errors_explained
from llm_jepa.models.trainable_weights import keep_4_bit_weights_unpacked
from llm_jepa.recipe import Recipe
from llm_jepa.runs.record import RECIPE_FILE
from llm_jepa.settings.reading import read_settings

Checkpoint = Literal["base", "tuned"]
CHECKPOINTS: tuple[Checkpoint, ...] = get_args(Checkpoint)


def choose_checkpoints(recipe: Recipe, wanted: Sequence[str] | None = None) -> list[Checkpoint]:
    """The checkpoints to evaluate, base first: the wanted ones, or all that the recipe has.

    Raises:
        ValueError: A checkpoint is unknown or named twice, a run from scratch has no base, or nothing was trained yet.
    """
    has_base = not recipe.training.from_scratch
    if wanted is None:
        wanted = CHECKPOINTS if has_base else ["tuned"]
    checkpoints = [checkpoint for checkpoint in CHECKPOINTS if checkpoint in wanted]
    if sorted(checkpoints) != sorted(wanted):
        raise ValueError(f"Checkpoints {','.join(wanted)!r}; allowed are {', '.join(CHECKPOINTS)}, each once.")
    if "base" in checkpoints and not has_base:
        raise ValueError(
            "`from_scratch: true` starts from random weights: there is no base. Give `--checkpoints tuned`."
        )
    if "tuned" in checkpoints:
        _check_run(recipe)
    return checkpoints


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


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds a PEFT adapter."""
    return (directory / ADAPTER_CONFIG).is_file()


def _check_run(recipe: Recipe) -> None:
    """Raise unless the output directory holds a finished run of this recipe's model."""
    directory = recipe.output_dir
    if not (is_adapter(directory) or (directory / MODEL_CONFIG).is_file()):
        raise ValueError(
            f"`output_dir: {directory}` holds no trained model or adapter. Train first (llm-jepa train "
            f"{recipe.path}), or evaluate the base model alone with `--checkpoints base`."
        )
    if (directory / RECIPE_FILE).is_file():
        trained = read_settings(directory / RECIPE_FILE)["model_name_or_path"]
        given = recipe.settings["model_name_or_path"]
        if trained != given:
            raise ValueError(
                f"`output_dir: {directory}` was trained from {trained!r}; `model_name_or_path` is {given!r}. Use the "
                "settings of the run."
            )


def _load_weights(recipe: Recipe, location: str) -> PreTrainedModel:
    model, training = recipe.model, recipe.training
    kwargs = {
        "revision": model.model_revision,
        "trust_remote_code": training.trust_remote_code,
        "attn_implementation": model.attn_implementation,
        "device_map": {"": training.device},
    }
    kwargs |= recipe.settings.get("model_init_kwargs") or {}
    kwargs["dtype"] = weights_dtype(recipe)
    quantization = get_quantization_config(model)
    if quantization is not None:  # None would override a checkpoint's own quantisation
        kwargs["quantization_config"] = quantization
    with load_errors_explained(f"The model {location!r}"):
        weights = AutoModelForCausalLM.from_pretrained(location, **kwargs)
    keep_4_bit_weights_unpacked(weights)
    return weights
