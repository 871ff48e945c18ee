"""What is known of each objective without torch: what it needs of a row, and which options have an effect with it.

An objective of the user's own is a class in a Python file, named as `FILE.py:CLASS`; its attributes say the same.
"""

import functools
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

ObjectiveName: TypeAlias = Literal["pair", "tube", "patch", "step", "next_latent", "answer_code", "multi_token"] | str
ObjectiveNames: TypeAlias = ObjectiveName | list[ObjectiveName]
"""One objective, or several at once."""
BASE_MODULE = "llm_jepa.objectives.base"
OWN_OBJECTIVE = r"\.py:[^:]+$"
"""What the name of a user's own objective matches."""

RowNeeds = Literal["views", "spans", "steps", "conversation"]
"""Two views, each a sequence of its own; the spans of source and target in the conversation; the ends of the target's
steps in it; or the conversation."""
SpanSampler = Literal["ends", "start_first", "uniform"]

PREDICTING_VIEW_OPTIONS = (
    "num_predictor_tokens",
    "jepa_direction",
    "jepa_source_view",
    "jepa_layout",
    "shuffle_pairs",
    "source_view_column",
    "target_view_column",
)
"""Options of the predicting view, and of where both views come from."""
PAIR_OPTIONS = (
    *PREDICTING_VIEW_OPTIONS,
    "predictor_position",
    "jepa_loss",
    "info_nce_temperature",
    "jepa_regulariser",
    "regulariser_weight",
    "jepa_target",
    "ema_decay",
    "ema_warmup_steps",
    "jepa_readout",
    "target_layer",
)
"""Options that have an effect with views alone."""
NEXT_LATENT_OPTIONS = (
    "latent_predictor",
    "latent_depth",
    "latent_width",
    "rollout_steps",
    "smooth_l1_weight",
    "kl_weight",
    "detach_backbone",
)
VIEW_OPTIONS = (
    "num_predictor_tokens",
    "predictor_position",
    "jepa_direction",
    "jepa_source_view",
    "jepa_readout",
    "target_layer",
    "source_turn",
    "system_prompt",
    "chat_template_kwargs",
)
"""Options by which the embedding of a view is computed."""
DYNAMICS_OPTIONS = ("latent_predictor", "latent_depth", "latent_width", "rollout_steps")
"""Options of the network that `next_latent` trains."""
PAIR_LOGS = (
    "jepa_cosine",
    "jepa_cosine_unpaired",
    "jepa_retrieval_at_1",
    "jepa_effective_rank",
    "jepa_without_negatives",
    "jepa_regulariser",
)
CONTRASTIVE_LOSSES = ("info_nce", "info_nce_symmetric")
LOGGED_ONLY_WITH: dict[str, Callable[[Any], bool]] = {
    "jepa_without_negatives": lambda options: options.jepa_loss in CONTRASTIVE_LOSSES,
    "jepa_regulariser": lambda options: options.jepa_regulariser != "none",
    "jepa_kl": lambda options: options.kl_weight > 0,
}
"""A part of a loss that some options leave out -> whether it is logged with these."""


@dataclass(frozen=True)
class ObjectiveTraits:
    """What an objective is to the code that runs before a model.

    Attributes:
        row_needs: What it needs of a row. Plain text without pairs has spans and steps, and no views.
        span_samplers: How it may choose content tokens, its default first; none if it looks at no span.
        has_parameters: Options -> whether it has parameters of its own with them.
        options: Those that have an effect with it and not with every objective.
        has_network: Whether a network of its own must run in every step, so that none can drop the term.
        kept_options: Those that are needed to use what it has trained; none where nothing is kept beside the model.
        drafts: Whether what it has trained can draft tokens.
        logs: What it may log beside `jepa_loss`; None if nobody knows.
    """

    row_needs: RowNeeds
    span_samplers: tuple[SpanSampler, ...] = ()
    has_parameters: Callable[[Any], bool] = lambda options: False
    options: tuple[str, ...] = ()
    has_network: bool = False
    kept_options: tuple[str, ...] = ()
    drafts: bool = False
    logs: tuple[str, ...] | None = ()


OBJECTIVES: dict[str, ObjectiveTraits] = {
    "pair": ObjectiveTraits(
        "views",
        has_parameters=lambda options: options.num_predictor_tokens > 0,
        options=PAIR_OPTIONS,
        kept_options=VIEW_OPTIONS,
        logs=PAIR_LOGS,
    ),
    "tube": ObjectiveTraits("spans", ("ends", "uniform")),
    "patch": ObjectiveTraits("spans", ("start_first", "uniform")),
    "step": ObjectiveTraits("steps", options=("step_separator",), logs=("jepa_without_steps",)),
    "next_latent": ObjectiveTraits(
        "conversation",
        has_parameters=lambda options: True,
        options=NEXT_LATENT_OPTIONS,
        has_network=True,
        kept_options=DYNAMICS_OPTIONS,
        drafts=True,
        logs=("jepa_smooth_l1", "jepa_kl"),
    ),
    "answer_code": ObjectiveTraits(
        "views",
        has_parameters=lambda options: True,
        options=(*PREDICTING_VIEW_OPTIONS, "reconstruction_weight"),
        has_network=True,
        logs=("jepa_code", "jepa_reconstruction"),
    ),
    "multi_token": ObjectiveTraits(
        "conversation", has_parameters=lambda options: True, options=("num_future_tokens",), has_network=True
    ),
}
OBJECTIVE_OPTIONS = tuple(dict.fromkeys(name for traits in OBJECTIVES.values() for name in traits.options))
"""Options that have an effect with some of the objectives."""


def objective_names(objectives: str | Sequence[str]) -> tuple[str, ...]:
    """The names in a value of `jepa_objective`."""
    return (objectives,) if isinstance(objectives, str) else tuple(objectives)


def short_name(objective: str) -> str:
    """The name of an objective in logs: `own.py:Mine` -> `Mine`."""
    return objective.rpartition(":")[2]


def as_written(objectives: str | Sequence[str]) -> str:
    """A value of `jepa_objective` as a recipe has it: `pair`, or `[pair, tube]`."""
    return objectives if isinstance(objectives, str) else f"[{', '.join(objectives)}]"


def objective_traits(objective: str) -> ObjectiveTraits:
    """What an objective needs.

    Raises:
        ValueError: There is no objective of this name, or as `load_own_objective`.
    """
    if objective in OBJECTIVES:
        return OBJECTIVES[objective]
    own = load_own_objective(objective)
    row_needs = own.row_needs
    others = tuple(name for name in OBJECTIVE_OPTIONS if name not in PAIR_OPTIONS)  # it may read them
    return ObjectiveTraits(
        row_needs,
        has_parameters=lambda options: True,
        options=(*others, *PAIR_OPTIONS) if row_needs == "views" else others,
        kept_options=VIEW_OPTIONS if row_needs == "views" else (),
        has_network=bool(getattr(own, "computes_within_forward", False)),
        logs=None,
    )


def logged_terms(options: Any) -> tuple[str, ...] | None:
    """What the objectives may log with options; None if one is of the user's own.

    Raises as `objective_traits` does.
    """
    names = objective_names(options.jepa_objective)
    logs = [objective_traits(name).logs for name in names]
    if None in logs:
        return None
    each = [f"jepa_loss_{short_name(name)}" for name in names] if len(names) > 1 else []
    terms = [term for of_one in logs for term in of_one or ()]
    idle = {term for term, is_logged in LOGGED_ONLY_WITH.items() if not is_logged(options)}
    return ("jepa_loss", *each, *(term for term in terms if term not in idle))


def needs_views(objectives: str | Sequence[str]) -> bool:
    """Whether one of the objectives needs two views of a row. Raises as `objective_traits` does."""
    return any(objective_traits(name).row_needs == "views" for name in objective_names(objectives))


def needs_spans(objectives: str | Sequence[str]) -> bool:
    """Whether one of the objectives needs the spans of a row. Raises as `objective_traits` does."""
    return any(objective_traits(name).row_needs == "spans" for name in objective_names(objectives))


def needs_steps(objectives: str | Sequence[str]) -> bool:
    """Whether one of the objectives needs the steps of a row. Raises as `objective_traits` does."""
    return any(objective_traits(name).row_needs == "steps" for name in objective_names(objectives))


def options_with_effect(objectives: str | Sequence[str]) -> frozenset[str]:
    """Those of `OBJECTIVE_OPTIONS` that have an effect with one of the objectives."""
    return frozenset(option for name in objective_names(objectives) for option in objective_traits(name).options)


def common_samplers(objectives: str | Sequence[str]) -> tuple[SpanSampler, ...] | None:
    """The samplers that each objective with samplers allows; None if none of them has any."""
    traits = map(objective_traits, objective_names(objectives))
    allowed = [each.span_samplers for each in traits if each.span_samplers]
    if not allowed:
        return None
    return tuple(sampler for sampler in allowed[0] if all(sampler in samplers for samplers in allowed))


def sampler_of(objective: str, given: SpanSampler | None) -> SpanSampler:
    """The sampler of an objective: the given one, or its default."""
    return given or objective_traits(objective).span_samplers[0]


def has_parameters(options: Any) -> bool:
    """Whether one of the objectives has parameters of its own. A user's own objective may have some."""
    return any(objective_traits(name).has_parameters(options) for name in objective_names(options.jepa_objective))


def row_comparing_option(options: Any) -> str | None:
    """The option by which `pair` compares the rows of a micro-batch, which then needs two; None without one."""
    if options.jepa_loss in CONTRASTIVE_LOSSES:
        return f"jepa_loss: {options.jepa_loss}"
    return None if options.jepa_regulariser == "none" else f"jepa_regulariser: {options.jepa_regulariser}"


def own_objective_file(objective: str) -> Path | None:
    """The Python file of a user's own objective; None for the others."""
    return None if objective in OBJECTIVES else Path(objective.rpartition(":")[0]).expanduser()


@functools.cache
def load_own_objective(name: str) -> Any:
    """The class of `FILE.py:CLASS`. Its file is run.

    Raises:
        ValueError: The name has another form, the file or the class is missing, or the class lacks what an objective
            has.
    """
    path, class_name = own_objective_file(name), name.rpartition(":")[2]
    if path is None or path.suffix != ".py":
        raise ValueError(
            f"`jepa_objective` is {name!r}; allowed are {', '.join(OBJECTIVES)}, and FILE.py:CLASS for one of your "
            "own."
        )
    if not path.is_file():
        raise ValueError(f"`jepa_objective: {name}`: there is no file `{path}` (looked in {Path.cwd()}).")
    found = getattr(_module(path), class_name, None)
    if not inspect.isclass(found) or getattr(found, "row_needs", None) not in get_args(RowNeeds):
        raise ValueError(
            f"`jepa_objective: {name}`: `{class_name}` is no objective in `{path}`. Give a subclass of "
            "`llm_jepa.objectives.base.Objective`, or of an objective beside it, whose `row_needs` is one of "
            f"{', '.join(map(repr, get_args(RowNeeds)))}."
        )
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    terms = getattr(found, "forward_terms", None)
    if getattr(found, "computes_within_forward", False) and getattr(terms, "__module__", None) == BASE_MODULE:
        missing.append("forward_terms")
    if missing:
        raise ValueError(f"`jepa_objective: {name}`: `{class_name}` lacks `{'`, `'.join(missing)}`. Write it.")
    return found


def _module(path: Path) -> object:
    name = f"llm_jepa_own_objective_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's own code raises
        line = traceback.extract_tb(error.__traceback__)[-1].lineno
        where = error.lineno if isinstance(error, SyntaxError) else line
        raise ValueError(f"`{path}`, line {where}: {type(error).__name__}: {error}. Mend the file.") from error
    return module
