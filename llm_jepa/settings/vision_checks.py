"""Every check of a VL-JEPA recipe's settings that needs no torch: ranges, and settings that contradict each other."""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from llm_jepa.settings.ranges import check_split, check_training_ranges
from llm_jepa.settings.schema import known_settings

PARTS = ("vision_encoder", "language_model", "text_encoder")
"""The keys that name the models of which one is made."""
EMBEDDING_OPTIONS = (
    "text_encoder",
    "text_pooling",
    "embedding_size",
    "jepa_loss",
    "info_nce_temperature",
    "trains_temperature",
    "jepa_target",
    "jepa_regulariser",
    "regulariser_weight",
    "text_encoder_learning_rate_factor",
)
"""Options that `answer_form: tokens` does not read. They may stand in its recipe, which is then an arm of another."""
TOKEN_METRICS = ("loss", "answer_token_accuracy")
"""What an evaluation logs of `answer_form: tokens`."""
EMBEDDING_METRICS = (
    "loss",
    "recall_at_1",
    "recall_at_5",
    "recall_at_10",
    "mean_reciprocal_rank",
    "jepa_cosine",
    "jepa_without_negatives",
    "jepa_regulariser",
    "jepa_cosine_unpaired",
    "jepa_effective_rank",
    "jepa_retrieval_at_1",
)
"""What an evaluation logs of `answer_form: embedding`."""
UNFIT_ARGUMENTS: dict[str, tuple[Any, str]] = {
    "remove_unused_columns": (True, "would remove image, question and answer"),
    "label_smoothing_factor": (None, "has no effect on the losses of VL-JEPA"),
    "prediction_loss_only": (True, "would leave out the metrics of an evaluation"),
    "eval_do_concat_batches": (False, "would split what the metrics of an evaluation read at once"),
    "batch_eval_metrics": (True, "would split what the metrics of an evaluation read at once"),
    "train_sampling_strategy": ("group_by_length", "needs rows of tokens, and these are of pictures and texts"),
}
"""Arguments of transformers -> the value that VL-JEPA cannot honour, None for any but 0, and why."""
MIN_TEMPERATURE = 0.01
"""The lowest that a learned temperature of InfoNCE becomes."""
COUNTS = ("embedding_size", "num_frames", "max_question_tokens", "max_answer_tokens")
FACTORS = ("vision_encoder_learning_rate_factor", "text_encoder_learning_rate_factor", "regulariser_weight")


def check_vision_settings(settings: Mapping[str, Any]) -> None:
    """Check typed settings, defaults in the place of those not given.

    Raises:
        ValueError: One is out of range or without effect, or settings contradict each other.
    """
    for key in ("dataset_train_split", "dataset_test_split"):
        check_split(settings, key)
    if settings.get("model_name_or_path") is not None and "predictor_weights" in settings:
        raise ValueError(
            "`predictor_weights` has no effect with `model_name_or_path`, whose weights are kept. Leave it out."
        )
    _check_best_metric(settings)
    if predicts_tokens(settings):
        _check_token_settings(settings)
    else:
        _check_idle_loss_options(settings)
    defaults = {key: setting.default for key, setting in known_settings("vision").items()}
    check_vision_options(SimpleNamespace(**{**defaults, **settings}))


def predicts_tokens(settings: Mapping[str, Any]) -> bool:
    """Whether a recipe is that of a token VLM."""
    return settings.get("answer_form") == "tokens"


def named_parts(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of the models of which a recipe makes one."""
    return tuple(key for key in PARTS if not (predicts_tokens(settings) and key in EMBEDDING_OPTIONS))


def required_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that a recipe must have."""
    return (*named_parts(settings), "dataset_name", "output_dir")


def unread_options(settings: Mapping[str, Any]) -> list[str]:
    """The keys of a recipe that its `answer_form` does not read."""
    return [key for key in EMBEDDING_OPTIONS if key in settings] if predicts_tokens(settings) else []


def _check_token_settings(settings: Mapping[str, Any]) -> None:
    if settings.get("push_to_hub"):
        raise ValueError("`push_to_hub` publishes no control, which `answer_form: tokens` makes. Leave it out.")


def _check_best_metric(settings: Mapping[str, Any]) -> None:
    """Check a metric before the run; transformers looks for it after the first evaluation."""
    metric = settings.get("metric_for_best_model")
    form, logged = ("tokens", TOKEN_METRICS) if predicts_tokens(settings) else ("embedding", EMBEDDING_METRICS)
    if metric is not None and metric.removeprefix("eval_") not in logged:
        raise ValueError(
            f"`metric_for_best_model: {metric}` is not logged with `answer_form: {form}`. Name one of "
            f"{', '.join(logged)}, or null."
        )


def _check_idle_loss_options(settings: Mapping[str, Any]) -> None:
    idle = []
    if "regulariser_weight" in settings and settings.get("jepa_regulariser", "none") == "none":
        idle.append("regulariser_weight")
    if settings.get("jepa_loss") == "cosine":
        idle += [key for key in ("info_nce_temperature", "trains_temperature") if key in settings]
    if idle:
        raise ValueError(f"`{'`, `'.join(idle)}` would have no effect: no term of the loss reads it. Leave it out.")


def check_vision_options(options: Any) -> None:
    """Check what `VisionConfig` holds: its attributes, or a namespace of the same.

    Raises:
        ValueError: An option is out of range or without effect, or options contradict each other.
    """
    check_training_ranges(options)
    for name in COUNTS:
        if getattr(options, name) < 1:
            raise ValueError(f"`{name}` is {getattr(options, name)}; it must be at least 1.")
    _check_layers(options)
    if options.image_size is not None and options.image_size < 1:
        raise ValueError(f"`image_size` is {options.image_size}; it must be at least 1 pixel, or null.")
    for name in FACTORS:
        if not 0 <= getattr(options, name) < math.inf:
            raise ValueError(f"`{name}` is {getattr(options, name)}; it must be a finite number >= 0.")
    if not 0 < options.info_nce_temperature < math.inf:
        raise ValueError(f"`info_nce_temperature` is {options.info_nce_temperature}; it must be a finite number > 0.")
    if options.trains_temperature and options.info_nce_temperature < MIN_TEMPERATURE:
        raise ValueError(
            f"`info_nce_temperature` is {options.info_nce_temperature}; a learned one (`trains_temperature`) is at "
            f"least {MIN_TEMPERATURE}."
        )
    _check_unfit_arguments(options)
    _check_inputs(options)
    is_embedding = options.answer_form == "embedding"
    if is_embedding and options.jepa_target == "stop_gradient" and options.text_encoder_learning_rate_factor > 0:
        raise ValueError(
            "`jepa_target: stop_gradient` sends no gradient to the text encoder. Set "
            "`text_encoder_learning_rate_factor: 0`."
        )


def _check_unfit_arguments(options: Any) -> None:
    for name, (unfit, reason) in UNFIT_ARGUMENTS.items():
        value = getattr(options, name)
        if (value != 0) if unfit is None else value == unfit:
            raise ValueError(f"`{name}: {str(value).lower()}` {reason}. Leave it out.")


def _check_layers(options: Any) -> None:
    least = 1 if options.answer_form == "tokens" else 0
    if options.predictor_layers < least:
        needed = " with `answer_form: tokens`" if least else ""
        raise ValueError(f"`predictor_layers` is {options.predictor_layers}; it must be at least {least}{needed}.")
    if options.predictor_layers == 0 and options.predictor_weights == "random":
        raise ValueError("`predictor_weights: random` has no effect with `predictor_layers: 0`. Leave it out.")


def _check_inputs(options: Any) -> None:
    is_blind = options.inputs == "question"
    if is_blind and options.question_column is None:
        raise ValueError("`inputs: question` needs a `question_column`.")
    if is_blind and options.feature_cache is not None:
        raise ValueError("`feature_cache` has no effect with `inputs: question`, which reads no images. Leave it out.")
    if options.augmentation != "none" and (is_blind or options.feature_cache is not None):
        reason = (
            "`inputs: question`, which reads no images" if is_blind else "`feature_cache`, which encodes them once"
        )
        raise ValueError(f"`augmentation` changes pictures, and has no effect with {reason}. Leave one out.")
    if is_blind and options.vision_encoder_learning_rate_factor > 0:
        raise ValueError(
            "`vision_encoder_learning_rate_factor` has no effect with `inputs: question`, which reads no images. "
            "Leave it out."
        )
    if options.feature_cache is not None and options.vision_encoder_learning_rate_factor > 0:
        raise ValueError(
            "`feature_cache` keeps the features of a frozen encoder, and `vision_encoder_learning_rate_factor: "
            f"{options.vision_encoder_learning_rate_factor}` trains it. Leave one out."
        )
    columns = [options.image_column, options.answer_column]
    columns += [column for column in (options.question_column, options.candidates_column) if column is not None]
    if len(set(columns)) < len(columns):
        raise ValueError(f"The columns are {', '.join(columns)}; image, question, answer and candidates are one each.")
