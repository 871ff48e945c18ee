"""What is known of each objective without torch: what it needs of a row, and which options have an effect with it.

An objective of the user's own is a class in a Python file, named as `FILE.py:CLASS`; its attributes say the same.
"""

import functools
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

ObjectiveName: TypeAlias = Literal["pair", "tube", "patch"] | str
OWN_OBJECTIVE = r"\.py:[^:]+$"
"""What the name of a user's own objective matches."""

RowNeeds = Literal["views", "spans"]
"""Two views, each a sequence of its own; or the spans of source and target in the conversation."""
SpanSampler = Literal["ends", "start_first", "uniform"]

PAIR_OPTIONS = (
    "num_predictor_tokens",
    "predictor_position",
    "jepa_loss",
    "info_nce_temperature",
    "jepa_regulariser",
    "regulariser_weight",
    "jepa_direction",
    "jepa_source_view",
    "jepa_target",
    "jepa_readout",
    "target_layer",
    "jepa_layout",
    "shuffle_pairs",
    "source_view_column",
    "target_view_column",
)
"""Options that have an effect with views alone."""
CONTRASTIVE_LOSSES = ("info_nce", "info_nce_symmetric")


@dataclass(frozen=True)
class ObjectiveTraits:
    """What an objective is to the code that runs before a model.

    Attributes:
        row_needs: What it needs of a row. Plain text without pairs has spans, and no views.
        span_samplers: How it may choose content tokens, its default first; none if it looks at no span.
    """

    row_needs: RowNeeds
    span_samplers: tuple[SpanSampler, ...] = ()


OBJECTIVES: dict[str, ObjectiveTraits] = {
    "pair": ObjectiveTraits("views"),
    "tube": ObjectiveTraits("spans", ("ends", "uniform")),
    "patch": ObjectiveTraits("spans", ("start_first", "uniform")),
}


def objective_traits(objective: str) -> ObjectiveTraits:
    """What an objective needs.

    Raises:
        ValueError: There is no objective of this name, or as `load_own_objective`.
    """
    if objective in OBJECTIVES:
        return OBJECTIVES[objective]
    return ObjectiveTraits(load_own_objective(objective).row_needs)


def needs_views(objective: str) -> bool:
    """Whether an objective needs two views of a row. Raises as `objective_traits` does."""
    return objective_traits(objective).row_needs == "views"


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
    if not inspect.isclass(found) or getattr(found, "row_needs", None) not in ("views", "spans"):
        raise ValueError(
            f"`jepa_objective: {name}`: `{class_name}` is no objective in `{path}`. Give a subclass of "
            "`llm_jepa.objectives.base.Objective`, or of an objective beside it, whose `row_needs` is 'views' or "
            "'spans'."
        )
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise ValueError(f"`jepa_objective: {name}`: `{class_name}` lacks `{'`, `'.join(missing)}`. Write them.")
    return found


def _module(path: Path) -> object:
    name = f"llm_jepa_own_objective_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
