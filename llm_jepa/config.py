"""Every option of the toolkit, beside TRL's own, and every check between options."""

import os
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

import torch
from transformers.trainer_utils import HubStrategy
from trl import SFTConfig

from llm_jepa.scoring.tasks import Task
from llm_jepa.settings.view_fields import check_expression

MAX_PREDICTOR_TOKENS = 16
SPAN_SAMPLERS: dict[str, tuple[Literal["ends", "start_first", "uniform"], ...]] = {
    "tube": ("ends", "uniform"),
    "patch": ("start_first", "uniform"),
}
"""The samplers of each objective that looks at spans, its default first."""
PAIR_OPTIONS = (
    "num_predictor_tokens",
    "predictor_position",
    "jepa_loss",
    "info_nce_temperature",
    "jepa_direction",
    "jepa_source_view",
    "jepa_target",
    "jepa_layout",
)
DEFAULT_INFO_NCE_TEMPERATURE = 0.07


@dataclass
class JEPAConfig(SFTConfig):
    r"""TRL's `SFTConfig` with the options of the LLM-JEPA objective (arXiv 2509.14252).

        loss = lm_weight * lm_loss + jepa_weight * jepa_loss

    The defaults are the paper's. `jepa_weight=0` is the LM-only arm: exactly TRL's `SFTTrainer` on the same rows,
    with every other JEPA option standing idle, so that two arms of a comparison differ in one line.

    Parameters:
        jepa_weight: Weight of the JEPA term (lambda), >= 0.
        lm_weight: Weight of the next-token loss (gamma), >= 0.
        jepa_objective: `pair`, one view predicts the other (LLM-JEPA), or Semantic Tube Prediction (arXiv 2602.22617)
            on the conversation's own hidden states, in the form `tube` (the paper's) or `patch` (its reference
            code's). Those two need no further token and no pairs; the options of a pair have no effect with them.
        span_sampler: Which content tokens `tube` and `patch` look at. `tube`: `ends` (s at the source's start, t at
            the target's end, r random; the default) or `uniform` (all three random); `patch`: `start_first` (start,
            then end; the default) or `uniform` (every span alike). Drawn from seed, step and row.
        jepa_dropout: Probability that an optimizer step drops the JEPA term, 0 <= p < 1; such a step computes no view
            token. Drawn from seed and step.
        jepa_dropout_rescale: Multiply `jepa_weight` by 1 / (1 - p) in the steps that keep the term, so that its
            expected weight is that of p = 0.
        num_predictor_tokens: k, how many learned [PRED] vectors the predicting view gets, 0..16. With 0 the
            prediction is read at the view's last content token.
        predictor_position: Whether the [PRED] vectors stand after (`append`) or before (`prepend`) the content.
        jepa_loss: Distance between prediction and target: `cosine` (1 - cos), `l2`, `mse` or `info_nce`.
        info_nce_temperature: Temperature of `info_nce`, > 0; 0.07 when not given.
        jepa_direction: Which view predicts which.
        jepa_source_view: The source encoded by itself (`alone`, the paper), or as the conversation's own prefix up to
            the end of the source (`prefix`): packed and appended, it costs nothing but its predictor tokens.
        jepa_target: Whether gradients flow through the view that is predicted (`online`, the paper) or not
            (`stop_gradient`); the latter is encoded in a no-grad forward of its own.
        jepa_layout: How the sequences of a row are computed: `rows` (each a row of its own), `packed` (in one row as
            a trie, or in two), `flat` (those of the whole micro-batch end to end, without padding; flash attention
            alone), or `auto` (flat with flash attention, else packed, where the model takes it exactly; rows where it
            does not).
        long_rows: What to do with a row of which a sequence exceeds `max_length`: `drop` it or raise an `error`.
        source_column: Where the source is, when the data are no `messages` nor `prompt`/`completion`: a column by its
            exact name, else a Jinja template of columns (`{{ question }} Schema: {{ schema }}`; sandboxed, what is
            null or undefined is an error), else the path of a nested field (`example.question.text`).
        target_column: Where the target is, likewise.
        view_columns: In place of those two: where each of two or more views is, likewise. A row becomes several, one
            for each pair of views, the earlier one its source.
        view_pairs: Which pairs: each view with the next (`chain`, the default) or with every later one (`all`).
        missing_views: Of `view_columns`, whether a view that is null or blank is an `error`, or its pairs are left out
            and counted (`skip`).
        source_turn: Which user turn before the target is the source, of `messages`, ShareGPT's `conversations` or a
            chat's `prompt`.
        target_turn: Which assistant turn of `messages` or `conversations` is the target: the one that ends them
            (`last`), the `first` after a user turn, or `all` after one, each in a row of its own. Such a row ends with
            its target, whose turn alone has labels.
        system_prompt: System turn put before every conversation; views are encoded without it.
        chat_template_kwargs: What the chat template gets beside the turns of every row, in training as in evaluation:
            `enable_thinking: false` of Qwen3, `date_string` of Llama 3.2. A row's own column of this name goes before.
        task: How `llm-jepa eval` and `compare` score what the model writes: `text` (exact scores alone), `regex`
            (language equality), `math` (GSM8K's final number), `qa` (normalised match), `sql` (execution) or `choice`
            (the most likely of the row's choices).
        database_path: For `task: sql`, the SQLite file of a row, with columns in braces:
            `spider/database/{db_id}/{db_id}.sqlite`.
        choices_column: For `task: choice`, the column with a row's list of choices; the target is one of them.
        from_scratch: Start from the model's config with random weights (pretraining).
        hub_private_repo: transformers'; here True: what is published is private unless this is False.
        hub_strategy: transformers'; here `end` alone: a checkpoint holds paths of the machine and optimizer states.
        completion_only_loss: TRL's; here True unless set to False, whatever the data set's columns are called.
        trackio_static_space_id: transformers'; here False unless given, so that `push_to_hub` publishes no Space with
            the logs of `report_to: trackio`. None lets trackio make one, a text names it.

    Raises:
        ValueError: An option is out of range, without effect, or one that JEPA cannot honour.
    """

    _VALID_DICT_FIELDS = [*SFTConfig._VALID_DICT_FIELDS, "chat_template_kwargs"]  # noqa: RUF012 (as transformers does)

    jepa_weight: float = field(default=1.0, metadata={"help": "Weight of the JEPA term (lambda); 0 is LM only."})
    lm_weight: float = field(default=1.0, metadata={"help": "Weight of the next-token loss (gamma)."})
    jepa_objective: Literal["pair", "tube", "patch"] = field(
        default="pair", metadata={"help": "Views that predict each other, or a straight path of hidden states."}
    )
    span_sampler: Literal["ends", "start_first", "uniform"] | None = field(
        default=None, metadata={"help": "How tube and patch draw their tokens."}
    )
    jepa_dropout: float = field(default=0.0, metadata={"help": "Probability that a step drops the JEPA term."})
    jepa_dropout_rescale: bool = field(
        default=False, metadata={"help": "Multiply jepa_weight by 1 / (1 - jepa_dropout) in the other steps."}
    )
    num_predictor_tokens: int = field(default=1, metadata={"help": "k, learned [PRED] vectors, 0 to 16."})
    predictor_position: Literal["append", "prepend"] = field(
        default="append", metadata={"help": "[PRED] vectors after or before the content."}
    )
    jepa_loss: Literal["cosine", "l2", "mse", "info_nce"] = field(
        default="cosine", metadata={"help": "Distance between prediction and target."}
    )
    info_nce_temperature: float | None = field(
        default=None, metadata={"help": "Temperature of info_nce; 0.07 when not given."}
    )
    jepa_direction: Literal["source_to_target", "target_to_source"] = field(
        default="source_to_target", metadata={"help": "Which view predicts which."}
    )
    jepa_source_view: Literal["alone", "prefix"] = field(
        default="alone", metadata={"help": "The source by itself, or as the conversation's prefix."}
    )
    jepa_target: Literal["online", "stop_gradient"] = field(
        default="online", metadata={"help": "Whether gradients flow through the predicted view."}
    )
    jepa_layout: Literal["auto", "packed", "flat", "rows"] = field(
        default="auto", metadata={"help": "Sequences of a row in one trie, all of a batch end to end, or a row each."}
    )
    long_rows: Literal["drop", "error"] = field(
        default="drop", metadata={"help": "What to do with rows longer than max_length."}
    )
    source_column: str | None = field(default=None, metadata={"help": "Column, nested field or template: the source."})
    target_column: str | None = field(default=None, metadata={"help": "Column, nested field or template: the target."})
    view_columns: list[str] | None = field(
        default=None, metadata={"help": "Columns, nested fields or templates: two or more views, in pairs."}
    )
    view_pairs: Literal["chain", "all"] | None = field(
        default=None, metadata={"help": "Which pairs of view_columns: each with the next, or with every later one."}
    )
    missing_views: Literal["error", "skip"] = field(
        default="error", metadata={"help": "What to do about a missing one of view_columns."}
    )
    source_turn: Literal["last", "first"] = field(
        default="last", metadata={"help": "Which user turn before the target is the source."}
    )
    target_turn: Literal["last", "first", "all"] = field(
        default="last", metadata={"help": "Which assistant turn of messages is the target."}
    )
    system_prompt: str | None = field(default=None, metadata={"help": "System turn before every conversation."})
    chat_template_kwargs: dict[str, Any] | None = field(
        default=None, metadata={"help": "What the chat template gets beside the turns."}
    )
    task: Task = field(default="text", metadata={"help": "How what the model writes is scored."})
    database_path: str | None = field(
        default=None, metadata={"help": "SQLite file of a row for task sql, columns in braces."}
    )
    choices_column: str | None = field(default=None, metadata={"help": "Column with the choices, for task choice."})
    from_scratch: bool = field(default=False, metadata={"help": "Random weights from the model's config."})
    hub_private_repo: bool | None = field(default=True, metadata={"help": "Publish for the owner's eyes alone."})
    hub_strategy: HubStrategy | str = field(default=HubStrategy.END, metadata={"help": "Only `end` is allowed."})
    trackio_static_space_id: str | None | Literal[False] = field(  # noqa: RUF036 (HfArgumentParser wants None second)
        default=False, metadata={"help": "Space in which push_to_hub publishes trackio's logs; False for none."}
    )

    def __post_init__(self):
        if _is_plain_cpu_run() and not self.use_cpu:
            self.use_cpu = True  # transformers refuses bf16 autocast on a CPU that was not asked for
        super().__post_init__()
        if self.completion_only_loss is None:
            self.completion_only_loss = True  # TRL would decide by the columns before they are mapped to rows
        self._check_choices()
        self._check_ranges()
        self._check_mapping()
        self._check_trl_options()
        if self.jepa_weight > 0:
            self._check_jepa_options()
            if self.jepa_objective == "pair":
                self._check_pair_options()
            else:
                self._check_span_options()
            self._set_derived_defaults()

    @property
    def kept_step_weight(self) -> float:
        """The weight of the JEPA term in a step that does not drop it."""
        return self.jepa_weight / (1 - self.jepa_dropout) if self.jepa_dropout_rescale else self.jepa_weight

    def _set_derived_defaults(self):
        if self.jepa_objective != "pair" and self.span_sampler is None:
            self.span_sampler = SPAN_SAMPLERS[self.jepa_objective][0]
        if self.jepa_loss == "info_nce" and self.info_nce_temperature is None:
            self.info_nce_temperature = DEFAULT_INFO_NCE_TEMPERATURE

    def _check_choices(self):
        for name, annotation in JEPAConfig.__annotations__.items():
            hints = (annotation, *get_args(annotation))  # a Literal, or one of several types
            choices = next((get_args(hint) for hint in hints if get_origin(hint) is Literal), None)
            value = getattr(self, name)
            if choices and value not in choices and type(value) not in hints:
                raise ValueError(f"`{name}` is {value!r}; allowed are {', '.join(map(repr, choices))}.")

    def _check_ranges(self):
        for name in ("jepa_weight", "lm_weight"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"`{name}` is {value}; it must be a finite number >= 0.")
        if self.jepa_weight == 0 and self.lm_weight == 0:
            raise ValueError("`jepa_weight` and `lm_weight` are both 0, so nothing would be trained. Raise one.")
        if not 0 <= self.jepa_dropout < 1:
            raise ValueError(
                f"`jepa_dropout` is {self.jepa_dropout}; it must be at least 0 and below 1. To leave the JEPA term "
                "out of every step, set `jepa_weight: 0`."
            )
        if self.num_predictor_tokens not in range(MAX_PREDICTOR_TOKENS + 1):
            raise ValueError(
                f"`num_predictor_tokens` is {self.num_predictor_tokens}; allowed are 0 to {MAX_PREDICTOR_TOKENS}."
            )
        if self.info_nce_temperature is not None and not 0 < self.info_nce_temperature < float("inf"):
            raise ValueError(f"`info_nce_temperature` is {self.info_nce_temperature}; it must be a finite number > 0.")
        for task, name in (("sql", "database_path"), ("choice", "choices_column")):
            if (self.task == task) != (getattr(self, name) is not None):
                raise ValueError(
                    f"`task` is {self.task!r} and `{name}` {getattr(self, name)!r}: it is needed for `task: {task}`, "
                    "and has no effect otherwise."
                )

    def _check_mapping(self):
        for name in ("source_column", "target_column", "view_columns"):
            value = getattr(self, name)
            for expression in value if isinstance(value, list) else [value]:
                if expression is not None:
                    check_expression(expression, name)
        if (self.source_column is None) != (self.target_column is None):
            raise ValueError(
                f"`source_column` is {self.source_column!r} and `target_column` is {self.target_column!r}. "
                "Give both, or neither for data with `messages` or `prompt`/`completion`."
            )
        if self.source_column is not None and self.source_column == self.target_column:
            raise ValueError(
                f"`source_column` and `target_column` are both {self.source_column!r}; the views need two columns."
            )
        if self.view_columns is not None:
            if self.source_column is not None:
                raise ValueError("`view_columns` stand in the place of `source_column` and `target_column`. Give one.")
            if len(self.view_columns) < 2 or len(set(self.view_columns)) < len(self.view_columns):
                raise ValueError(f"`view_columns` are {self.view_columns}; give two or more, each once.")
            if self.view_pairs is None:
                self.view_pairs = "chain"
        else:
            for name, idle in (("view_pairs", None), ("missing_views", "error")):
                if getattr(self, name) != idle:
                    raise ValueError(f"`{name}: {getattr(self, name)}` has no effect without `view_columns`.")
        if self.source_column is not None or self.view_columns is not None:
            for name in ("source_turn", "target_turn"):
                if getattr(self, name) != "last":
                    raise ValueError(
                        f"`{name}: {getattr(self, name)}` has no effect on named columns, only on `messages`."
                    )

    def _check_trl_options(self):
        if self.packing or self.eval_packing or self.padding_free:
            raise ValueError(
                "TRL's `packing` and `padding_free` put several rows into one sequence, which would mix the views of "
                "different rows. Leave them off; `jepa_layout: packed` packs the sequences of each row instead."
            )
        if self.truncation_mode != "keep_start":
            raise ValueError(
                f"`truncation_mode: {self.truncation_mode}` has no effect: rows longer than `max_length` are never "
                "truncated, since a truncated view is another view. See `long_rows`."
            )
        if self.long_rows == "error" and self.max_length is None:
            raise ValueError("`long_rows: error` has no effect with `max_length: null`; set a `max_length`.")
        if isinstance(self.dataset_kwargs, dict) and self.dataset_kwargs.get("skip_prepare_dataset"):
            raise ValueError(
                "`skip_prepare_dataset` would skip the making of views. Give pre-tokenised rows instead: columns "
                "`input_ids`, `labels`, `source_ids`, `target_ids`."
            )

        if self.hub_strategy != HubStrategy.END:
            raise ValueError(
                f"`hub_strategy: {HubStrategy(self.hub_strategy).value}` would publish checkpoints, with optimizer "
                "states and paths of this machine. Leave it out: what is published is the end of the run."
            )

    def _check_pair_options(self):
        if self.span_sampler is not None:
            raise ValueError("`span_sampler` has no effect with `jepa_objective: pair`; only with `tube` or `patch`.")
        if self.num_predictor_tokens == 0 and self.predictor_position == "prepend":
            raise ValueError("`predictor_position: prepend` has no effect with `num_predictor_tokens: 0`.")
        if self.jepa_loss != "info_nce" and self.info_nce_temperature is not None:
            raise ValueError(
                f"`info_nce_temperature` has no effect with `jepa_loss: {self.jepa_loss}`; only with `info_nce`."
            )
        if self.jepa_loss == "info_nce" and self.per_device_train_batch_size < 2:
            raise ValueError(
                "`jepa_loss: info_nce` takes its negatives from the micro-batch, so `per_device_train_batch_size` "
                f"must be at least 2; it is {self.per_device_train_batch_size}."
            )

    def _check_span_options(self):
        defaults = {name: JEPAConfig.__dataclass_fields__[name].default for name in PAIR_OPTIONS}
        idle = [f"`{name}: {getattr(self, name)}`" for name, value in defaults.items() if getattr(self, name) != value]
        if idle:
            at_defaults = " ".join(f"--{name} {value}" for name, value in defaults.items() if value is not None)
            raise ValueError(
                f"With `jepa_objective: {self.jepa_objective}` there is no pair of views, and {', '.join(idle)} would "
                f"have no effect. Leave it out. Over a recipe that sets it: `{at_defaults}`."
            )
        samplers = SPAN_SAMPLERS[self.jepa_objective]
        if self.span_sampler is not None and self.span_sampler not in samplers:
            raise ValueError(
                f"`span_sampler` is {self.span_sampler!r}; allowed with `jepa_objective: {self.jepa_objective}` are "
                f"{', '.join(map(repr, samplers))}."
            )

    def _check_jepa_options(self):
        if self.jepa_dropout_rescale and self.jepa_dropout == 0:
            raise ValueError("`jepa_dropout_rescale` has no effect with `jepa_dropout: 0`.")
        if self.label_smoothing_factor > 0:
            raise ValueError(
                "`label_smoothing_factor` makes TRL run a second forward with full logits, which knows no views. "
                "Set it to 0."
            )
        if not self.average_tokens_across_devices:
            raise ValueError(
                "`average_tokens_across_devices: false` normalises each process on its own; the losses are "
                "normalised over the whole step. Leave it on."
            )


def _is_plain_cpu_run() -> bool:
    """Whether there is no accelerator and no launcher whose CPU back-end is chosen elsewhere."""
    launched = any(
        os.environ.get(name, "false").lower() == "true" for name in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP")
    )
    return not launched and not torch.accelerator.is_available()
