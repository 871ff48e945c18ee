"""`JEPAConfig`: TRL's `SFTConfig` and every option of the toolkit."""

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

import torch
from trl import SFTConfig

from llm_jepa.options.data import DataOptions
from llm_jepa.options.evaluation import EvaluationOptions
from llm_jepa.options.next_latent import NextLatentOptions
from llm_jepa.options.objective import ObjectiveOptions
from llm_jepa.options.pair import PairOptions
from llm_jepa.options.publication import PublicationOptions
from llm_jepa.settings.checks import check_options, less_is_better
from llm_jepa.settings.objectives import CONTRASTIVE_LOSSES

DEFAULT_INFO_NCE_TEMPERATURE = 0.07
DEFAULT_REGULARISER_WEIGHT = 0.05
DEFAULT_EMA_DECAY = 0.996


@dataclass
class JEPAConfig(  # type: ignore[misc]  # `hub_strategy` has fewer choices
    PublicationOptions, EvaluationOptions, DataOptions, NextLatentOptions, PairOptions, ObjectiveOptions, SFTConfig
):
    """TRL's `SFTConfig` with the options of the LLM-JEPA objective (arXiv 2509.14252).

        loss = lm_weight * lm_loss + jepa_weight * jepa_loss
        jepa_loss = sum_i objective_weights[i] * loss_i, or the loss of one objective

    The defaults are the paper's. With `jepa_weight=0` the trainer is exactly TRL's `SFTTrainer` on the same rows, with
    its trained weights in float32, and every other JEPA option stands idle, so that two arms of a comparison differ in
    one line. `lm_weight` alone still scales its loss.

    The `help` of each field says what it means. `llm-jepa train --help`, the table of options in the documentation and
    the JSON schema of recipes are made from it; after a change run `make schema`.

    Raises:
        ValueError: An option is of the wrong type, out of range, without effect, or one that JEPA cannot honour.
    """

    _VALID_DICT_FIELDS = [*SFTConfig._VALID_DICT_FIELDS, "chat_template_kwargs"]  # noqa: RUF012 (as transformers does)

    from_scratch: bool = field(
        default=False, metadata={"help": "Start from random weights of the model's config (pretraining)."}
    )
    completion_only_loss: bool | None = field(
        default=True,
        metadata={"help": "Whether the completion alone has labels, however the data's columns are called."},
    )

    def __post_init__(self):
        if is_plain_cpu_run() and not self.use_cpu:
            self.use_cpu = True  # transformers refuses bf16 autocast on a CPU that was not asked for
        if self.greater_is_better is None and less_is_better(self.metric_for_best_model):
            self.greater_is_better = False
        super().__post_init__()
        if self.completion_only_loss is None:
            self.completion_only_loss = True  # TRL would decide by the columns before they are mapped to rows
        check_choices(self, own_fields())
        check_options(self)
        self._set_derived_defaults()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_dict()})"

    __str__ = __repr__

    @property
    def kept_step_weight(self) -> float:
        """The weight of the JEPA term in a step that does not drop it."""
        return self.jepa_weight / (1 - self.jepa_dropout) if self.jepa_dropout_rescale else self.jepa_weight

    @property
    def shuffles_pairs(self) -> bool:
        """Whether rows get the target views of others. With `jepa_weight: 0` the option stands idle."""
        return self.shuffle_pairs and self.jepa_weight > 0

    def _set_derived_defaults(self):
        if self.view_columns is not None and self.view_pairs is None:
            self.view_pairs = "chain"
        if self.jepa_weight == 0:
            return
        if self.jepa_loss in CONTRASTIVE_LOSSES and self.info_nce_temperature is None:
            self.info_nce_temperature = DEFAULT_INFO_NCE_TEMPERATURE
        if self.jepa_regulariser != "none" and self.regulariser_weight is None:
            self.regulariser_weight = DEFAULT_REGULARISER_WEIGHT
        if self.jepa_target == "ema" and self.ema_decay is None:
            self.ema_decay = DEFAULT_EMA_DECAY


def check_choices(options: Any, fields: Mapping[str, Any]) -> None:
    """Check the values of a configuration's fields whose type is a Literal.

    Args:
        fields: Name -> type.

    Raises:
        ValueError: One is none of its choices.
    """
    for name, annotation in fields.items():
        hints = (annotation, *get_args(annotation))  # a Literal, or one of several types
        choices = next((get_args(hint) for hint in hints if get_origin(hint) is Literal), None)
        value = getattr(options, name)
        if choices and value not in choices and type(value) not in [get_origin(hint) or hint for hint in hints]:
            value = getattr(value, "value", value)  # of an Enum
            reason = f" {options.__dataclass_fields__[name].metadata['help']}" if len(choices) == 1 else ""
            raise ValueError(f"`{name}` is {value!r}; allowed are {', '.join(map(repr, choices))}.{reason}")


def own_fields(configuration: type = JEPAConfig, base: type = SFTConfig) -> dict[str, Any]:
    """Name -> type of each option that the base lacks or that is defined anew, in the order of definition.

    The types are those written: `HfArgumentParser` overwrites `Field.type`.
    """
    own = [kind for kind in reversed(configuration.__mro__) if kind not in base.__mro__]
    return {name: hint for kind in own for name, hint in inspect.get_annotations(kind).items()}


def is_plain_cpu_run() -> bool:
    """Whether there is no accelerator and no launcher whose CPU back-end is chosen elsewhere."""
    launched = any(
        os.environ.get(name, "false").lower() == "true" for name in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP")
    )
    return not launched and not torch.accelerator.is_available()
