"""Every check of a recipe's settings that needs no torch: ranges, and settings that contradict or idle each other.

`check_recipe` is asked before anything heavy is imported; `JEPAConfig` asks `check_options` of itself.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llm_jepa.settings.objective_checks import WITHOUT_VIEWS, check_effect_of_objective_options, check_objectives
from llm_jepa.settings.objectives import as_written, logged_terms, needs_views
from llm_jepa.settings.ranges import check_adapter_ranges, check_attention, check_split, check_training_ranges
from llm_jepa.settings.reading import read_settings
from llm_jepa.settings.schema import known_settings, recipe_kind
from llm_jepa.settings.value_types import check_value_types
from llm_jepa.settings.view_fields import check_expression
from llm_jepa.settings.vision_checks import check_vision_settings, required_of

REQUIRED = ("model_name_or_path", "dataset_name", "output_dir")
MAX_PREDICTOR_TOKENS = 16
EVALUATION_METRICS = ("loss", "entropy", "mean_token_accuracy", "aux_loss")
"""What TRL logs of an evaluation, `aux_loss` of a mixture of experts."""
LOSSES_BY_ANOTHER_NAME = (
    *("jepa_smooth_l1", "jepa_kl", "jepa_code", "jepa_reconstruction", "jepa_regulariser"),
    *("jepa_without_negatives", "jepa_without_steps"),
)
"""Metrics of which less is better, and which transformers takes for scores: their names do not end in `loss`."""
NO_PARTNERS_IN_STREAMS = (
    "`shuffle_pairs` draws each row's partner from all rows, which a stream does not know. Set `dataset_streaming: "
    "false`, or leave it out."
)


def check_recipe(path: Path, overrides: Sequence[str] = (), required: Sequence[str] = REQUIRED) -> dict[str, Any]:
    """Read a recipe and check its settings.

    Raises:
        ValueError: As by `read_settings` and `check_settings`.
    """
    settings = read_settings(path, overrides)
    check_settings(path, settings, required)
    return settings


def check_settings(path: Path | str, settings: Mapping[str, Any], required: Sequence[str] = REQUIRED) -> None:
    """Check typed settings, defaults in the place of those not given; `path` is what errors call their place.

    Raises:
        ValueError: One is missing, out of range or without effect, or settings contradict each other.
    """
    is_vision = recipe_kind(settings) == "vision"
    if is_vision:
        required = [key for key in required_of(settings) if key in required or key not in REQUIRED]
    missing = [key for key in required if settings.get(key) is None]
    if missing:
        raise ValueError(f"{path}: `{'`, `'.join(missing)}` must be given, in the recipe or as `--key value`.")
    try:
        if is_vision:
            check_vision_settings(settings)
            return
        _check_text_field(settings)
        check_split(settings, "dataset_train_split")
        check_split(settings, "dataset_test_split")
        _check_model_settings(settings)
        defaults = {key: setting.default for key, setting in known_settings().items()}
        options = SimpleNamespace(**{**defaults, **settings})
        check_options(options)
        _check_best_metric(options)
        if options.shuffle_pairs and options.dataset_streaming and options.jepa_weight > 0:
            raise ValueError(NO_PARTNERS_IN_STREAMS)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_options(options: Any) -> None:
    """Check what `JEPAConfig` holds: its attributes, or a namespace of the same.

    Raises:
        ValueError: An option is of the wrong type, out of range, without effect, or one that JEPA cannot honour.
    """
    check_value_types(options)
    check_objectives(options)
    _check_ranges(options)
    check_training_ranges(options)
    _check_mapping(options)
    _check_trl_options(options)
    if options.jepa_weight > 0:
        check_effect_of_objective_options(options)


def _check_best_metric(options: Any) -> None:
    """Check a metric before the run; transformers looks for it after the first evaluation."""
    metric = options.metric_for_best_model
    if metric is None or options.eval_strategy == "no":
        return
    terms: tuple[str, ...] | None = ()
    what = "`jepa_weight: 0`"
    if options.jepa_weight > 0:
        terms, what = logged_terms(options), f"`jepa_objective: {as_written(options.jepa_objective)}`"
    if terms is not None and metric.removeprefix("eval_") not in (*EVALUATION_METRICS, *terms):
        raise ValueError(
            f"`metric_for_best_model: {metric}` is not logged with {what}. Name one of "
            f"{', '.join((*EVALUATION_METRICS, *terms))}, or null."
        )


def less_is_better(metric: str | None) -> bool:
    """Whether the best model by a metric has the lowest, where transformers would take the highest."""
    name = "" if metric is None else metric.removeprefix("eval_")
    return name in LOSSES_BY_ANOTHER_NAME or name.startswith("jepa_loss_")


def _check_text_field(settings: Mapping[str, Any]) -> None:
    if "dataset_text_field" not in settings:
        return
    objective, weight = (settings.get(key, known_settings()[key].default) for key in ("jepa_objective", "jepa_weight"))
    makes_views = needs_views(objective) and weight > 0
    if makes_views or settings.get("source_column") is not None or settings.get("view_columns") is not None:
        raise ValueError(
            "`dataset_text_field` has no effect: it names a column of plain text, on which only `jepa_weight: 0` and "
            f"objectives without views ({WITHOUT_VIEWS}), without named columns, train. Leave it out."
        )


def _check_model_settings(settings: Mapping[str, Any]) -> None:
    check_attention(settings.get("attn_implementation"))
    if not settings.get("use_peft"):
        for key in ("load_in_4bit", "load_in_8bit"):
            if settings.get(key):
                raise ValueError(f"`{key}` trains adapters on a quantised model; it needs `use_peft: true`.")
        idle = [key for key in settings if key.startswith("lora_") or key in ("use_rslora", "use_dora")]
        if idle:
            raise ValueError(f"`{'`, `'.join(idle)}` would have no effect without `use_peft: true`.")
    else:
        check_adapter_ranges(settings)
    if settings.get("use_peft") and settings.get("from_scratch"):
        raise ValueError("`from_scratch` with `use_peft` would train adapters on random weights. Leave one out.")
    if settings.get("load_in_4bit") and settings.get("load_in_8bit"):
        raise ValueError("`load_in_4bit` and `load_in_8bit` are both true; a weight has one precision. Leave one out.")
    idle = [key for key in settings if key.startswith("bnb_4bit_") or key == "use_bnb_nested_quant"]
    if idle and not settings.get("load_in_4bit"):
        raise ValueError(f"`{'`, `'.join(idle)}` would have no effect without `load_in_4bit: true`.")


def _check_ranges(options: Any) -> None:
    for name in ("jepa_weight", "lm_weight"):
        value = getattr(options, name)
        if not 0 <= value < float("inf"):
            raise ValueError(f"`{name}` is {value}; it must be a finite number >= 0.")
    if options.jepa_weight == 0 and options.lm_weight == 0:
        raise ValueError("`jepa_weight` and `lm_weight` are both 0, so nothing would be trained. Raise one.")
    if options.jepa_weight > 0 and options.lm_weight == 0 and options.jepa_dropout > 0:
        raise ValueError(
            f"`jepa_dropout: {options.jepa_dropout}` leaves out the JEPA term of some steps, and `lm_weight: 0` the "
            "rest of their loss. Leave one out."
        )
    if not 0 <= options.jepa_dropout < 1:
        raise ValueError(
            f"`jepa_dropout` is {options.jepa_dropout}; it must be at least 0 and below 1. To leave the JEPA term "
            "out of every step, set `jepa_weight: 0`."
        )
    if options.num_predictor_tokens not in range(MAX_PREDICTOR_TOKENS + 1):
        raise ValueError(
            f"`num_predictor_tokens` is {options.num_predictor_tokens}; allowed are 0 to {MAX_PREDICTOR_TOKENS}."
        )
    for name in ("info_nce_temperature", "predictor_learning_rate"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"`{name}` is {value}; it must be a finite number > 0.")
    if options.regulariser_weight is not None and not 0 <= options.regulariser_weight < float("inf"):
        raise ValueError(f"`regulariser_weight` is {options.regulariser_weight}; it must be a finite number >= 0.")
    if options.ema_decay is not None and not 0 <= options.ema_decay < 1:
        raise ValueError(f"`ema_decay` is {options.ema_decay}; it must be at least 0 and below 1.")
    if options.ema_warmup_steps < 0:
        raise ValueError(f"`ema_warmup_steps` is {options.ema_warmup_steps}; it must be at least 0.")
    if not 0 < options.target_layer <= 1:
        raise ValueError(
            f"`target_layer` is {options.target_layer}; it must be above 0 and at most 1, the last layer."
        )
    for task, name in (("sql", "database_path"), ("choice", "choices_column")):
        if (options.task == task) != (getattr(options, name) is not None):
            raise ValueError(
                f"`task` is {options.task!r} and `{name}` {getattr(options, name)!r}: it is needed for `task: "
                f"{task}`, and has no effect otherwise."
            )
    if options.task == "choice" and options.extract != "none":
        raise ValueError(
            f"`extract: {options.extract}` has no effect on `task: choice`, whose scores are of likelihoods. Leave it "
            "out."
        )


def _check_mapping(options: Any) -> None:
    for name in ("source_column", "target_column", "source_view_column", "target_view_column", "view_columns"):
        value = getattr(options, name)
        for expression in value if isinstance(value, list) else [value]:
            if expression is not None:
                check_expression(expression, name)
    if (options.source_column is None) != (options.target_column is None):
        raise ValueError(
            f"`source_column` is {options.source_column!r} and `target_column` is {options.target_column!r}. "
            "Give both, or neither for data with `messages` or `prompt`/`completion`."
        )
    if options.source_column is not None and options.source_column == options.target_column:
        raise ValueError(
            f"`source_column` and `target_column` are both {options.source_column!r}; the views need two columns."
        )
    if options.view_columns is not None:
        if options.source_column is not None:
            raise ValueError("`view_columns` stand in the place of `source_column` and `target_column`. Give one.")
        if len(options.view_columns) < 2 or len(set(options.view_columns)) < len(options.view_columns):
            raise ValueError(f"`view_columns` are {options.view_columns}; give two or more, each once.")
    else:
        for name, idle in (("view_pairs", None), ("missing_views", "error")):
            if getattr(options, name) != idle:
                raise ValueError(f"`{name}: {getattr(options, name)}` has no effect without `view_columns`.")
    if options.source_column is not None or options.view_columns is not None:
        for name in ("source_turn", "target_turn"):
            if getattr(options, name) != "last":
                raise ValueError(
                    f"`{name}: {getattr(options, name)}` has no effect on named columns, only on `messages`."
                )
    _check_own_views(options)


def _check_own_views(options: Any) -> None:
    """Check the columns of views that are no part of the conversation."""
    source, target = options.source_view_column, options.target_view_column
    if (source is None) != (target is None):
        raise ValueError(
            f"`source_view_column` is {source!r} and `target_view_column` is {target!r}. Give both, or neither for "
            "views that are turns of the conversation."
        )
    if source is None:
        return
    if source == target:
        raise ValueError(f"`source_view_column` and `target_view_column` are both {source!r}; the views need two.")
    if options.view_columns is not None:
        raise ValueError("`view_columns` are views already. Leave `source_view_column` and `target_view_column` out.")
    if options.source_turn != "last":
        raise ValueError(
            f"`source_turn: {options.source_turn}` has no effect with `source_view_column`, which names the source. "
            "Leave one out."
        )
    if options.target_turn == "all":
        raise ValueError(
            "`target_turn: all` makes several rows of a conversation, and `source_view_column` and "
            "`target_view_column` name one pair of views. Set `target_turn` to last or first."
        )


def _check_trl_options(options: Any) -> None:
    if options.packing or options.eval_packing or options.padding_free:
        raise ValueError(
            "TRL's `packing` and `padding_free` put several rows into one sequence, which would mix the views of "
            "different rows. Leave them off; `jepa_layout: packed` packs the sequences of each row instead."
        )
    if options.truncation_mode != "keep_start":
        raise ValueError(
            f"`truncation_mode: {options.truncation_mode}` has no effect: rows longer than `max_length` are never "
            "truncated, since a truncated view is another view. See `long_rows`."
        )
    if options.assistant_only_loss:
        raise ValueError(
            "`assistant_only_loss` has no effect: the target, which is the assistant's turn, has labels and nothing "
            "else. Leave it out; `target_turn` says which turn that is."
        )
    if options.long_rows == "error" and options.max_length is None:
        raise ValueError("`long_rows: error` has no effect with `max_length: null`; set a `max_length`.")
    if isinstance(options.dataset_kwargs, dict) and options.dataset_kwargs.get("skip_prepare_dataset"):
        raise ValueError(
            "`skip_prepare_dataset` would skip the making of views. Give pre-tokenised rows instead: columns "
            "`input_ids`, `labels`, `source_ids`, `target_ids`."
        )
