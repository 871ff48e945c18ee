"""The last layers of a causal LM: as the predictor, which sees every position, or as a smaller causal LM."""

from typing import Any, Literal

import torch
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from llm_jepa.models.layer_selection import config_of_layers, last_layers, weights_of_layers
from llm_jepa.models.shared_cache import can_be_shared
from llm_jepa.objectives.latent_dynamics import CACHE_ARGUMENT

PredictorWeights = Literal["pretrained", "random"]
KEPT_WEIGHTS = {"embed_tokens", "lm_head"}
"""Modules that stay where layers are drawn anew."""
PROBED_POSITIONS = 4


def language_config(language_model: PreTrainedConfig, num_layers: int) -> PreTrainedConfig:
    """The configuration of a language model cut down to its last layers.

    Raises:
        ValueError: It has fewer layers.
    """
    config = language_model.get_text_config()
    total = config.num_hidden_layers
    if not 0 <= num_layers <= total:
        raise ValueError(
            f"`predictor_layers` is {num_layers}; it must be from 0 to {total}, the layers of `language_model`."
        )
    return config_of_layers(config, last_layers(total, num_layers))


def predictor_config(language_model: PreTrainedConfig, num_layers: int) -> PreTrainedConfig:
    """The same with the causal mask off.

    Raises:
        ValueError: It has fewer layers.
    """
    config = language_config(language_model, num_layers)
    config.is_causal = False
    config.use_cache = False
    return config


def load_predictor(name_or_path: str, num_layers: int, weights: PredictorWeights) -> PreTrainedModel:
    """The last layers of a causal LM with its embeddings and final norm, in float32. Of 0 layers nothing but the
    embeddings is read.

    With `weights: random` the layers and the norm are drawn anew; the embeddings stay.

    Raises:
        ValueError: The model has fewer layers, has no `layers`, or keeps its causal mask.
    """
    whole: Any = _load_whole(name_or_path).base_model
    predictor = AutoModel.from_config(predictor_config(whole.config, num_layers))
    _check_has_layers(predictor, name_or_path)
    _copy_last_layers(whole, predictor, weights)
    if num_layers > 0:
        refuse_causal_mask(predictor, name_or_path)
    return predictor


def load_language_model(name_or_path: str, num_layers: int, weights: PredictorWeights) -> PreTrainedModel:
    """The last layers of a causal LM with its embeddings, final norm and head, in float32.

    With `weights: random` the layers and the norm are drawn anew; embeddings and head stay.

    Raises:
        ValueError: The model has fewer layers, no `layers`, or recurrent ones.
    """
    whole: Any = _load_whole(name_or_path)
    cut = AutoModelForCausalLM.from_config(language_config(whole.config, num_layers))
    _check_has_layers(cut.base_model, name_or_path)
    refuse_recurrent_layers(cut, name_or_path)
    _copy_last_layers(whole, cut, weights)
    return cut


def _load_whole(name_or_path: str) -> PreTrainedModel:
    """The causal LM.

    Raises:
        ValueError: It reads pictures too, so its layers are those of a part.
    """
    whole = AutoModelForCausalLM.from_pretrained(name_or_path, dtype=torch.float32)
    if whole.config.get_text_config() is not whole.config:
        raise ValueError(
            f"`language_model: {name_or_path}` ({whole.config.model_type}) is of texts and pictures. Name a causal LM "
            "such as Llama, Qwen3 or SmolLM2."
        )
    return whole


def _check_has_layers(model: PreTrainedModel, name: str) -> None:
    if not hasattr(model, "layers"):
        raise ValueError(
            f"`language_model: {name}` is a {type(model).__name__}, which has no `layers` to take the last of. Name a "
            "causal LM such as Llama, Qwen3 or SmolLM2."
        )


def _copy_last_layers(whole: PreTrainedModel, cut: PreTrainedModel, weights: PredictorWeights) -> None:
    total, num_layers = whole.config.num_hidden_layers, cut.config.num_hidden_layers
    kept = weights_of_layers(whole.state_dict(), last_layers(total, num_layers))
    if weights == "random":
        kept = {name: value for name, value in kept.items() if KEPT_WEIGHTS & {*name.split(".")}}
    cut.load_state_dict(kept, strict=weights == "pretrained")


def refuse_recurrent_layers(language_model: PreTrainedModel, name: str) -> None:
    """Check that candidates could go on from copies of one cache of picture and question.

    Raises:
        ValueError: They could not: a layer keeps a recurrent state.
    """
    embeds_NSD = torch.zeros(1, PROBED_POSITIONS, language_model.config.hidden_size)
    with torch.no_grad():
        output = language_model.eval()(inputs_embeds=embeds_NSD, use_cache=True)
    if not can_be_shared(getattr(output, CACHE_ARGUMENT)):
        raise ValueError(
            f"`language_model: {name}` ({language_model.config.model_type}) has recurrent layers, whose state the "
            "candidates of a row cannot share. Name a causal LM such as Llama, Qwen3 or SmolLM2."
        )


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
