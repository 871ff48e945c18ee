"""`from_scratch`: a model with random weights in place of a pretrained one."""

from typing import Any

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    set_seed,
)

from llm_jepa.config import JEPAConfig
from llm_jepa.models.loading import load_tokenizer


def init_revision(args: JEPAConfig) -> str | None:
    """The model revision in `model_init_kwargs`."""
    assert not isinstance(args.model_init_kwargs, str), "TrainingArguments parses JSON"
    return (args.model_init_kwargs or {}).get("revision")


def random_model(
    model: str | PreTrainedModel, args: JEPAConfig, processing_class: PreTrainedTokenizerBase | ProcessorMixin | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | ProcessorMixin]:
    """A model with random weights, and the tokenizer that goes with its config.

    `model_init_kwargs` changes the config as it does for `from_pretrained`.

    Raises:
        ValueError: The model is already built, or `model_init_kwargs` has what is neither in its config nor for it.
    """
    if not isinstance(model, str):
        raise ValueError("`from_scratch` has no effect on a model that is already built. Give its name instead.")
    assert not isinstance(args.model_init_kwargs, str), "TrainingArguments parses JSON"
    if processing_class is None:
        processing_class = load_tokenizer(model, init_revision(args), args.trust_remote_code)
    settings = {"dtype": "float32", "trust_remote_code": args.trust_remote_code} | (args.model_init_kwargs or {})
    built_with = {key: settings.pop(key) for key in ("dtype", "attn_implementation") if key in settings}
    if built_with["dtype"] == "auto":
        del built_with["dtype"]  # it stands in the configuration
    config, idle = changed_config(model, settings)
    if idle:
        raise ValueError(
            f"`model_init_kwargs` has `{'`, `'.join(idle)}`, which has no effect with `from_scratch`: the model's "
            "configuration lacks it, and no weights are loaded. Leave it out."
        )
    args.model_init_kwargs = None  # they are used here; TRL would warn about some of them
    set_seed(args.seed)
    trust = settings["trust_remote_code"]
    return AutoModelForCausalLM.from_config(config, trust_remote_code=trust, **built_with), processing_class


def changed_config(model: str, settings: dict[str, Any]) -> tuple[PretrainedConfig, dict[str, Any]]:
    """The config of a model with its values changed by these settings, and the settings that it does not read."""
    return AutoConfig.from_pretrained(model, return_unused_kwargs=True, **settings)
