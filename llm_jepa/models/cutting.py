"""Makes causal LMs that have some layers of another one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.layer_selection import config_of_layers, spread_layers, weights_of_layers


def cut_model(name_or_path: str, num_layers: int, directory: Path) -> tuple[list[int], int]:
    """Write the model with layers at even distances, and its tokenizer.

    Args:
        name_or_path: A known model, a directory or a Hub id.
        num_layers: How many are kept.
        directory: An existing, empty directory.

    Returns:
        The layers that are kept, and the number of parameters.

    Raises:
        ValueError: The model has fewer layers, or none that `layers` names.
    """
    location = resolve_model(name_or_path)
    whole: Any = AutoModelForCausalLM.from_pretrained(location)
    total = whole.config.num_hidden_layers
    if not 1 <= num_layers <= total:
        raise ValueError(f"num_layers is {num_layers}; `{name_or_path}` has {total}. Give a number from 1 to {total}.")
    layers = spread_layers(total, num_layers)
    cut = with_layers(whole, layers, name_or_path)
    cut.save_pretrained(directory)
    AutoTokenizer.from_pretrained(location).save_pretrained(directory)
    return layers, cut.num_parameters()


def with_layers(whole: Any, layers: Sequence[int], name: str) -> Any:
    """A causal LM with these layers of another one, and its embeddings, norm and head.

    Args:
        name: What the model is called in the error.

    Raises:
        ValueError: The model has no `layers`.
    """
    if not hasattr(whole.base_model, "layers"):
        raise ValueError(
            f"`{name}` is a {type(whole).__name__}, which has no `layers`. Cut one such as Llama, Qwen3 or SmolLM2."
        )
    cut: Any = AutoModelForCausalLM.from_config(config_of_layers(whole.config, layers), dtype=whole.dtype)
    missing, unexpected = cut.load_state_dict(weights_of_layers(whole.state_dict(), layers), strict=False)
    assert not missing
    assert not unexpected
    cut.generation_config = whole.generation_config
    return cut
