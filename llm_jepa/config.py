"""`JEPAConfig`: TRL's `SFTConfig` and every option of the toolkit."""

import copy
import os
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

import torch
from trl import SFTConfig

from llm_jepa.scoring.extraction import Extract
from llm_jepa.scoring.tasks import Task
from llm_jepa.settings.checks import check_options
from llm_jepa.settings.objectives import CONTRASTIVE_LOSSES, ObjectiveName, objective_traits
from llm_jepa.settings.secrets import redacted

DEFAULT_INFO_NCE_TEMPERATURE = 0.07
DEFAULT_REGULARISER_WEIGHT = 0.05


@dataclass
class JEPAConfig(SFTConfig):
    """TRL's `SFTConfig` with the options of the LLM-JEPA objective (arXiv 2509.14252).

        loss = lm_weight * lm_loss + jepa_weight * jepa_loss

    The defaults are the paper's. With `jepa_weight=0` the trainer is exactly TRL's `SFTTrainer` on the same rows, with
    its trained weights in float32, and every other JEPA option stands idle, so that two arms of a comparison differ in
    one line.

    The `help` of each field says what it means. `llm-jepa train --help`, the table of options in the documentation and
    the JSON schema of recipes are made from it; after a change run `make schema`.

    Raises:
        ValueError: An option is out of range, without effect, or one that JEPA cannot honour.
    """

    _VALID_DICT_FIELDS = [*SFTConfig._VALID_DICT_FIELDS, "chat_template_kwargs"]  # noqa: RUF012 (as transformers does)

    jepa_weight: float = field(
        default=1.0, metadata={"help": "Weight of the JEPA term (lambda), at least 0; 0 is plain SFT."}
    )
    lm_weight: float = field(default=1.0, metadata={"help": "Weight of the next-token loss (gamma), at least 0."})
    jepa_objective: ObjectiveName = field(
        default="pair",
        metadata={
            "help": "`pair`: one view predicts the other (LLM-JEPA). `tube` (the paper's) and `patch` (its reference "
            "code's) are Semantic Tube Prediction (arXiv 2602.22617) on the conversation's own hidden states: they "
            "need no pairs and no token more than SFT, and the options of a pair have no effect with them. "
            "`FILE.py:CLASS` is one of your own."
        },
    )
    span_sampler: Literal["ends", "start_first", "uniform"] | None = field(
        default=None,
        metadata={
            "help": "Which content tokens `tube` and `patch` look at, drawn from seed, step and row. `tube`: `ends` "
            "(from the source's start to the target's end, one random token between; its default) or `uniform` (all "
            "three random). `patch`: `start_first` (start, then end; its default) or `uniform` (every span alike)."
        },
    )
    jepa_dropout: float = field(
        default=0.0,
        metadata={
            "help": "Probability that an optimizer step drops the JEPA term, at least 0 and below 1; such a step "
            "computes no view tokens."
        },
    )
    jepa_dropout_rescale: bool = field(
        default=False,
        metadata={
            "help": "Divide `jepa_weight` by 1 - `jepa_dropout` in the steps that keep the term, so that its expected "
            "weight stays the same."
        },
    )
    num_predictor_tokens: int = field(
        default=1,
        metadata={
            "help": "k, the number of learned [PRED] vectors of the predicting view, 0 to 16. They are trained with "
            "the model and absent from what is published. With 0 the last content token predicts."
        },
    )
    predictor_position: Literal["append", "prepend"] = field(
        default="append", metadata={"help": "Whether the [PRED] vectors stand after the content or before it."}
    )
    jepa_loss: Literal["cosine", "l2", "mse", "info_nce", "info_nce_symmetric"] = field(
        default="cosine",
        metadata={
            "help": "Distance between prediction and target: 1 - cosine, L2, mean squared error, or InfoNCE with the "
            "other rows of the micro-batch (of all processes) as negatives, except those with the same target. "
            "`info_nce_symmetric` also picks the prediction by the target, and takes the mean of both."
        },
    )
    info_nce_temperature: float | None = field(
        default=None, metadata={"help": "Temperature of InfoNCE, above 0; 0.07 when not given."}
    )
    jepa_regulariser: Literal["none", "sigreg", "vicreg"] = field(
        default="none",
        metadata={
            "help": "A term against collapse, of both views' embeddings in the micro-batch of all processes: they "
            "become a standard Gaussian sample (`sigreg`, LeJEPA) or spread and decorrelated (`vicreg`)."
        },
    )
    regulariser_weight: float | None = field(
        default=None,
        metadata={"help": "Weight of `jepa_regulariser`, at least 0, which only logs it; 0.05 when not given."},
    )
    jepa_direction: Literal["source_to_target", "target_to_source"] = field(
        default="source_to_target", metadata={"help": "Which view predicts which."}
    )
    jepa_source_view: Literal["alone", "prefix"] = field(
        default="alone",
        metadata={
            "help": "The source is encoded by itself (`alone`, the paper), or it is the conversation's own prefix up "
            "to the end of the source (`prefix`), which costs nothing beyond its predictor tokens when packed."
        },
    )
    jepa_target: Literal["online", "stop_gradient"] = field(
        default="online",
        metadata={
            "help": "Gradients flow through the predicted view (`online`, the paper), or that view is encoded in a "
            "forward without gradient (`stop_gradient`)."
        },
    )
    jepa_readout: Literal["last", "mean"] = field(
        default="last",
        metadata={
            "help": "What is read of a view: the hidden state at its last token, or the mean over the tokens of its "
            "content. A predicting view with [PRED] vectors is always read at its last token."
        },
    )
    target_layer: float = field(
        default=1.0,
        metadata={
            "help": "Depth at which the target is read, above 0 to 1: after the nearest layer; 1.0 is the last."
        },
    )
    shuffle_pairs: bool = field(
        default=False,
        metadata={
            "help": "A control: each row gets the target view of another row, drawn once by `seed` from the rows that "
            "are kept. Labels, tokens and cost stay the same; what helps with it is not owed to the pairs."
        },
    )
    jepa_layout: Literal["auto", "packed", "flat", "rows"] = field(
        default="auto",
        metadata={
            "help": "How the sequences of a row are computed, always with the same result: each in a row of its own "
            "(`rows`), all in one row (`packed`; sdpa, eager, FlexAttention), or those of a micro-batch end to end "
            "without padding (`flat`; flash attention). `auto` takes `flat` or `packed` where the model computes "
            "it exactly, else `rows`."
        },
    )
    long_rows: Literal["drop", "error"] = field(
        default="drop",
        metadata={
            "help": "Rows with a sequence longer than `max_length` are dropped and counted, or an error. They are "
            "never cut."
        },
    )
    excluded_rows: str | None = field(
        default=None,
        metadata={
            "help": "A JSON file with a list of row indices, from 0, that training leaves out. `llm-jepa compare` "
            "writes one, so that all arms train on the same rows."
        },
    )
    source_column: str | None = field(
        default=None,
        metadata={
            "help": "Where the source is, unless the data have `messages` or `prompt`/`completion`: the exact name of "
            "a column, the path of a nested field (`example.question.text`), or a Jinja template of columns "
            "(`{{ question }} Schema: {{ schema }}`)."
        },
    )
    target_column: str | None = field(
        default=None, metadata={"help": "Where the target is, written as for `source_column`."}
    )
    source_view_column: str | None = field(
        default=None,
        metadata={
            "help": "Where the source view is, written as for `source_column`, if it is no part of the conversation. "
            "Given with `target_view_column`, for `jepa_objective: pair` and `jepa_source_view: alone`."
        },
    )
    target_view_column: str | None = field(
        default=None, metadata={"help": "Where the target view is, if it is no part of the conversation."}
    )
    view_columns: list[str] | None = field(
        default=None,
        metadata={
            "help": "In place of `source_column` and `target_column`: where each of two or more views is. A row "
            "becomes one row for each pair of views, the earlier view its source."
        },
    )
    view_pairs: Literal["chain", "all"] | None = field(
        default=None,
        metadata={
            "help": "Which pairs of `view_columns`: each view with the next (`chain`, the default), or with every "
            "later one (`all`)."
        },
    )
    missing_views: Literal["error", "skip"] = field(
        default="error",
        metadata={
            "help": "A view of `view_columns` that is null or blank is an error, or its pairs are skipped and counted."
        },
    )
    source_turn: Literal["last", "first"] = field(
        default="last",
        metadata={"help": "Which user turn before the target is the source, in data with `messages` or the like."},
    )
    target_turn: Literal["last", "first", "all"] = field(
        default="last",
        metadata={
            "help": "Which assistant turn of `messages` is the target: the one that ends them, the first after a user "
            "turn, or every one after a user turn, each in a row of its own that ends with it. That turn alone has "
            "labels."
        },
    )
    system_prompt: str | None = field(
        default=None,
        metadata={"help": "System turn before every conversation; views are encoded without it."},
    )
    chat_template_kwargs: dict[str, Any] | None = field(
        default=None,
        metadata={
            "help": "What the chat template gets beside the turns, in training as in evaluation, e.g. "
            "`{enable_thinking: false}` for Qwen3. A column of this name in the data goes before."
        },
    )
    task: Task = field(
        default="text",
        metadata={
            "help": "How `llm-jepa eval` and `compare` score what the model writes: by its text alone, as a regex "
            "(language equality), as a problem's final number (`math`), as a short answer (`qa`), as SQL (execution), "
            "by the likelihood of each `choice`, or as a solution of what the source asks (a `path` in a graph, "
            "`countdown`, a `maze`)."
        },
    )
    extract: Extract = field(
        default="none",
        metadata={
            "help": "What the task's own scores take from the text that the model writes: all of it, or the body of "
            "its first fenced block (`fence`), such as a query in Markdown. `strict` is of the whole text always, and "
            "`strict_extracted` of what is taken."
        },
    )
    database_path: str | None = field(
        default=None,
        metadata={
            "help": "For `task: sql`, the SQLite file of a row, with columns in braces: `databases/{db_id}.sqlite`."
        },
    )
    choices_column: str | None = field(
        default=None,
        metadata={"help": "For `task: choice`, the column with a row's list of choices, one of which is the target."},
    )
    from_scratch: bool = field(
        default=False, metadata={"help": "Start from random weights of the model's config (pretraining)."}
    )
    hub_private_repo: bool | None = field(
        default=True, metadata={"help": "Publish for the owner's eyes alone; false makes it public."}
    )
    hub_strategy: Literal["end"] = field(
        default="end",
        metadata={
            "help": "The end of a run is published, and no checkpoint: checkpoints hold paths of the machine and "
            "optimizer states."
        },
    )
    completion_only_loss: bool | None = field(
        default=True,
        metadata={"help": "Whether the completion alone has labels, however the data's columns are called."},
    )
    trackio_static_space_id: str | None | Literal[False] = field(  # noqa: RUF036 (HfArgumentParser wants None second)
        default=False,
        metadata={
            "help": "Space in which `push_to_hub` publishes the logs of `report_to: trackio`: its name, null to let "
            "trackio make one, or false for none."
        },
    )

    def __post_init__(self):
        if _is_plain_cpu_run() and not self.use_cpu:
            self.use_cpu = True  # transformers refuses bf16 autocast on a CPU that was not asked for
        super().__post_init__()
        if self.completion_only_loss is None:
            self.completion_only_loss = True  # TRL would decide by the columns before they are mapped to rows
        self._check_choices()
        check_options(self)
        self._set_derived_defaults()

    def to_dict(self) -> dict[str, Any]:
        """Every option as JSON, for trackers and logs; `<secret>` stands for each secret."""
        return redacted(super().to_dict())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_dict()})"

    __str__ = __repr__

    def without_secrets(self) -> "JEPAConfig":
        """A copy that can be stored: without the token, and with `<secret>` for each secret in a mapping."""
        stored = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, str | dict | list):
                setattr(stored, name, redacted(value, (name,)))
        stored.hub_token = None
        return stored

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
        samplers = objective_traits(self.jepa_objective).span_samplers
        if samplers and self.span_sampler is None:
            self.span_sampler = samplers[0]
        if self.jepa_loss in CONTRASTIVE_LOSSES and self.info_nce_temperature is None:
            self.info_nce_temperature = DEFAULT_INFO_NCE_TEMPERATURE
        if self.jepa_regulariser != "none" and self.regulariser_weight is None:
            self.regulariser_weight = DEFAULT_REGULARISER_WEIGHT

    def _check_choices(self):
        for name, annotation in JEPAConfig.__annotations__.items():
            hints = (annotation, *get_args(annotation))  # a Literal, or one of several types
            choices = next((get_args(hint) for hint in hints if get_origin(hint) is Literal), None)
            value = getattr(self, name)
            if choices and value not in choices and type(value) not in hints:
                value = getattr(value, "value", value)  # of an Enum
                reason = f" {self.__dataclass_fields__[name].metadata['help']}" if len(choices) == 1 else ""
                raise ValueError(f"`{name}` is {value!r}; allowed are {', '.join(map(repr, choices))}.{reason}")


def _is_plain_cpu_run() -> bool:
    """Whether there is no accelerator and no launcher whose CPU back-end is chosen elsewhere."""
    launched = any(
        os.environ.get(name, "false").lower() == "true" for name in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP")
    )
    return not launched and not torch.accelerator.is_available()
