"""`from_scratch`: a model with random weights in place of a pretrained one."""

from typing import Any

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
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
    """A model with random weights, and the tokenizer that goes with its config."""
    if not isinstance(model, str):
        raise ValueError("`from_scratch` has no effect on a model that is already built. Give its name instead.")
    assert not isinstance(args.model_init_kwargs, str), "TrainingArguments parses JSON"
    revision = init_revision(args)
    if processing_class is None:
        processing_class = load_tokenizer(model, revision, args.trust_remote_code)
    settings: dict[str, Any] = {"dtype": "float32"} | (args.model_init_kwargs or {})
    settings.pop("revision", None)
    if settings["dtype"] == "auto":
        del settings["dtype"]  # it stands in the configuration
    config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=args.trust_remote_code)
    args.model_init_kwargs = None  # they are used here; TRL would warn about some of them
    set_seed(args.seed)
    scratch = AutoModelForCausalLM.from_config(config, trust_remote_code=args.trust_remote_code, **settings)
    return scratch, processing_class
