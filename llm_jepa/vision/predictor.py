"""The predictor: the last layers of a causal LM, which see every position."""

from typing import Any, Literal

import torch
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from llm_jepa.models.layer_selection import config_of_layers, last_layers, weights_of_layers

PredictorWeights = Literal["pretrained", "random"]
PROBED_POSITIONS = 4


def predictor_config(language_model: PreTrainedConfig, num_layers: int) -> PreTrainedConfig:
    """The configuration of a language model cut down to its last layers, its causal mask off.

    Raises:
        ValueError: It has fewer layers.
    """
    total = language_model.get_text_config().num_hidden_layers
    if not 1 <= num_layers <= total:
        raise ValueError(
            f"`predictor_layers` is {num_layers}; it must be from 1 to {total}, the layers of `language_model`."
        )
    config = config_of_layers(language_model.get_text_config(), last_layers(total, num_layers))
    config.is_causal = False
    config.use_cache = False
    return config


def load_predictor(name_or_path: str, num_layers: int, weights: PredictorWeights) -> PreTrainedModel:
    """The last layers of a causal LM with its embeddings and final norm, in float32.

    With `weights: random` the layers and the norm are drawn anew; the embeddings stay.

    Raises:
        ValueError: The model has fewer layers, has no `layers`, or keeps its causal mask.
    """
    whole: Any = AutoModelForCausalLM.from_pretrained(name_or_path, dtype=torch.float32).base_model
    predictor = AutoModel.from_config(predictor_config(whole.config, num_layers))
    if not hasattr(predictor, "layers"):
        raise ValueError(
            f"`language_model: {name_or_path}` is a {type(predictor).__name__}, which has no `layers` to take the "
            "last of. Name a causal LM such as Llama, Qwen3 or SmolLM2."
        )
    kept = weights_of_layers(whole.state_dict(), last_layers(whole.config.num_hidden_layers, num_layers))
    if weights == "random":
        kept = {name: value for name, value in kept.items() if name.startswith("embed_tokens.")}
    predictor.load_state_dict(kept, strict=weights == "pretrained")
    refuse_causal_mask(predictor, name_or_path)
    return predictor


def refuse_causal_mask(predictor: PreTrainedModel, name: str) -> None:
    """Check that the first position sees the last one.

    Raises:
        ValueError: It does not: the model builds its causal mask whatever its configuration says.
    """
    predictor.eval()
    states = []
    for last in (0.0, 1.0):
        embeds_NSD = torch.zeros(1, PROBED_POSITIONS, predictor.config.hidden_size)
        embeds_NSD[:, :-1] = 0.5
        embeds_NSD[:, -1, 0] = last
        with torch.no_grad():
            states.append(predictor(inputs_embeds=embeds_NSD, use_cache=False).last_hidden_state[0, 0])
    if torch.equal(*states):
        raise ValueError(
            f"`language_model: {name}` ({predictor.config.model_type}) keeps its causal mask with `is_causal: false`, "
            "and a predictor must see every position. Name a causal LM such as Llama, Qwen3 or SmolLM2."
        )
