"""Checks of the options of the objectives: names, weights, and options without effect."""

import math
import re
from typing import Any

from llm_jepa.settings.objectives import (
    CONTRASTIVE_LOSSES,
    OBJECTIVE_OPTIONS,
    OBJECTIVES,
    as_written,
    common_samplers,
    has_parameters,
    needs_views,
    objective_names,
    objective_traits,
    options_with_effect,
    row_comparing_option,
    short_name,
)
from llm_jepa.settings.schema import known_settings

WITHOUT_VIEWS = " or ".join(f"`{name}`" for name, traits in OBJECTIVES.items() if traits.row_needs != "views")
WITH_SAMPLERS = " or ".join(f"`{name}`" for name, traits in OBJECTIVES.items() if traits.span_samplers)


def check_objectives(options: Any) -> None:
    """Check the names of the objectives and their weights, whether or not they stand idle.

    Raises:
        ValueError: A name is of nothing or given twice, or two objectives need views; `step_separator` is no regular
            expression; or a weight is out of range, missing or too many.
    """
    names, weights = objective_names(options.jepa_objective), options.objective_weights
    if not names:
        raise ValueError("`jepa_objective` is an empty list. Name an objective; `jepa_weight: 0` trains without one.")
    for name in names:
        objective_traits(name)  # refuses a name of nothing
    short = [short_name(name) for name in names]
    twice = next((name for name in short if short.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"`jepa_objective: {as_written(names)}` names {twice} twice. Name each objective once.")
    with_views = [name for name in names if needs_views(name)]
    if len(with_views) > 1:
        raise ValueError(f"`jepa_objective`: {' and '.join(with_views)} both lay out views; name one.")
    _check_step_separator(options.step_separator)
    if weights is None:
        return
    if not all(0 < weight < math.inf for weight in weights):
        raise ValueError(f"`objective_weights` are {weights}; each must be a finite number > 0.")
    if len(names) > 1 and len(weights) != len(names):
        raise ValueError(
            f"`objective_weights` are {weights}; `jepa_objective: {as_written(names)}` needs {len(names)}, one for "
            "each."
        )


def _check_step_separator(separator: str) -> None:
    """Check it whether or not it stands idle, since it decides the rows' columns in the LM-only arm too."""
    if not separator:
        raise ValueError("`step_separator` is empty; give a regular expression that ends a step, such as `\\n`.")
    try:
        re.compile(separator)
    except re.error as error:
        raise ValueError(
            f"`step_separator: {separator}` is no regular expression: {error}. Escape what is meant literally."
        ) from error


def check_effect_of_objective_options(options: Any) -> None:
    """Check that every option of the objectives has an effect.

    Raises:
        ValueError: One has none, or two of them contradict each other.
    """
    named = f"`jepa_objective: {as_written(options.jepa_objective)}`"
    if options.objective_weights is not None and len(objective_names(options.jepa_objective)) == 1:
        raise ValueError(
            f"`objective_weights` has no effect with {named}; they weigh several objectives. `jepa_weight` is the "
            "weight of one. Over a recipe that sets it: `--objective_weights null`."
        )
    if options.predictor_learning_rate is not None and not has_parameters(options):
        raise ValueError(
            f"`predictor_learning_rate` has no effect: with these options {named} has no parameters of its own. Leave "
            "it out. Over a recipe that sets it: `--predictor_learning_rate null`."
        )
    _check_term_options(options)
    _check_span_sampler(options, named)
    _refuse_idle_options(options, named)
    if needs_views(options.jepa_objective):
        _check_pair_options(options)
    if "answer_code" in objective_names(options.jepa_objective):
        _check_answer_code_options(options)
    if options.num_future_tokens < 1:
        raise ValueError(f"`num_future_tokens` is {options.num_future_tokens}; it must be at least 1.")
    _check_next_latent_options(options)


def _check_term_options(options: Any) -> None:
    networks = [name for name in objective_names(options.jepa_objective) if objective_traits(name).has_network]
    if options.jepa_dropout > 0 and networks:
        raise ValueError(
            f"`jepa_dropout: {options.jepa_dropout}` drops view tokens, and `jepa_objective: {networks[0]}` has a "
            "network that runs in every step. Leave it out."
        )
    if options.jepa_dropout_rescale and options.jepa_dropout == 0:
        raise ValueError("`jepa_dropout_rescale` has no effect with `jepa_dropout: 0`.")
    if options.label_smoothing_factor > 0:
        raise ValueError(
            "`label_smoothing_factor` makes TRL run a second forward with full logits, which knows no views. "
            "Set it to 0."
        )
    if options.neftune_noise_alpha and needs_views(options.jepa_objective):
        raise ValueError(
            f"`neftune_noise_alpha: {options.neftune_noise_alpha}` scales its noise by the length of the stored rows, "
            "which differs between layouts and arms once they hold views. Leave it out."
        )
    if not options.average_tokens_across_devices:
        raise ValueError(
            "`average_tokens_across_devices: false` normalises each process on its own; the losses are "
            "normalised over the whole step. Leave it on."
        )


def _check_span_sampler(options: Any, named: str) -> None:
    if options.span_sampler is None:
        return
    samplers = common_samplers(options.jepa_objective)
    if samplers is None:
        raise ValueError(f"`span_sampler` has no effect with {named}; only with {WITH_SAMPLERS}. Leave it out.")
    if options.span_sampler not in samplers:
        raise ValueError(
            f"`span_sampler` is {options.span_sampler!r}; allowed with {named} are {', '.join(map(repr, samplers))}."
        )


def _check_pair_options(options: Any) -> None:
    if options.num_predictor_tokens == 0 and options.predictor_position == "prepend":
        raise ValueError("`predictor_position: prepend` has no effect with `num_predictor_tokens: 0`.")
    if options.source_view_column is not None and options.jepa_source_view == "prefix":
        raise ValueError(
            "`jepa_source_view: prefix` takes the source from the conversation, and `source_view_column` names one "
            "that is no part of it. Set `jepa_source_view: alone`, or leave both `_view_column` out."
        )
    if options.jepa_loss not in CONTRASTIVE_LOSSES and options.info_nce_temperature is not None:
        raise ValueError(
            f"`info_nce_temperature` has no effect with `jepa_loss: {options.jepa_loss}`; only with "
            f"{' and '.join(f'`{name}`' for name in CONTRASTIVE_LOSSES)}."
        )
    if options.jepa_regulariser == "none" and options.regulariser_weight is not None:
        raise ValueError("`regulariser_weight` has no effect without `jepa_regulariser: sigreg` or `vicreg`.")
    _check_average_options(options)
    comparing = row_comparing_option(options)
    if comparing is not None and options.per_device_train_batch_size < 2:
        raise ValueError(
            f"`{comparing}` compares the rows of the micro-batch, so `per_device_train_batch_size` must be at least "
            f"2; it is {options.per_device_train_batch_size}."
        )


def _check_answer_code_options(options: Any) -> None:
    if options.num_predictor_tokens == 0:
        raise ValueError(
            "`num_predictor_tokens` is 0; `jepa_objective: answer_code` predicts a code at each [PRED] token. Set it "
            "to at least 1."
        )
    if not 0 < options.reconstruction_weight < math.inf:
        raise ValueError(
            f"`reconstruction_weight` is {options.reconstruction_weight}; it must be a finite number > 0, since only "
            "the reconstruction trains the codes."
        )


def _check_average_options(options: Any) -> None:
    decay, steps = options.ema_decay, options.ema_warmup_steps
    for name, is_given in (("ema_decay", decay is not None), ("ema_warmup_steps", steps != 0)):
        if is_given and options.jepa_target != "ema":
            raise ValueError(
                f"`{name}` has no effect with `jepa_target: {options.jepa_target}`; only with `ema`. Leave it out."
            )
    if steps > 0 and decay == 0:
        raise ValueError("`ema_warmup_steps` has no effect with `ema_decay: 0`. Leave it out.")


def _check_next_latent_options(options: Any) -> None:
    predictor, depth = options.latent_predictor, options.latent_depth
    least = 2 if predictor == "mlp" else 1
    if depth is not None and depth < least:
        raise ValueError(
            f"`latent_depth` is {depth}; with `latent_predictor: {predictor}` it must be at least {least}."
        )
    if options.latent_width is not None and not 0 < options.latent_width < math.inf:
        raise ValueError(f"`latent_width` is {options.latent_width}; it must be a finite number > 0.")
    if options.rollout_steps < 1:
        raise ValueError(f"`rollout_steps` is {options.rollout_steps}; it must be at least 1.")
    if predictor == "decoder_layer":
        if options.latent_width is not None:
            raise ValueError("`latent_width` has no effect with `latent_predictor: decoder_layer`. Leave it out.")
        if options.rollout_steps > 1:
            raise ValueError(
                f"`rollout_steps` is {options.rollout_steps}; a decoder layer attends to the states before, which its "
                "own would replace. Set it to 1, or `latent_predictor: mlp`."
            )
    if options.detach_backbone and options.fp16:
        raise ValueError("`detach_backbone` clips two norms of gradients, which `fp16` cannot. Set `bf16: true`.")
    for name in ("smooth_l1_weight", "kl_weight"):
        if not 0 <= getattr(options, name) < math.inf:
            raise ValueError(f"`{name}` is {getattr(options, name)}; it must be a finite number >= 0.")
    if options.smooth_l1_weight == options.kl_weight == 0:
        raise ValueError("`smooth_l1_weight` and `kl_weight` are both 0, so nothing would be learnt. Raise one.")


def _refuse_idle_options(options: Any, named: str) -> None:
    with_effect = options_with_effect(options.jepa_objective)
    defaults = {name: known_settings()[name].default for name in OBJECTIVE_OPTIONS if name not in with_effect}
    idle = {name: value for name, value in defaults.items() if getattr(options, name) != value}
    if idle:
        given = ", ".join(f"`{name}: {getattr(options, name)}`" for name in idle)
        at_defaults = " ".join(f"--{name} {'null' if value is None else value}" for name, value in idle.items())
        raise ValueError(
            f"With {named} {given} would have no effect. Leave it out. Over a recipe that sets it: `{at_defaults}`."
        )
