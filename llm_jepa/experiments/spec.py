"""What an experiment is: arms x seeds over one base recipe. Imports no torch."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from llm_jepa.settings.schema import Kind, Setting, known_settings, recipe_kind

Settings = dict[str, Any]
Overlap = Literal["refuse", "count"]
LongerBaseline = Literal["search", "inherit"]
EqualFlops = Literal["each_arm", "costliest_arm", "none"]

_TEXT, _WHOLE, _FLAG = Setting(("string",)), Setting(("integer",)), Setting(("boolean",))
_MAPPING = Setting(("object",))
BASELINES = Setting(("string", "array"), item=_TEXT)
EXPERIMENT_KEYS = {
    "recipe": _TEXT,
    "output_dir": _TEXT,
    "baseline": _TEXT,
    "compared_with": _MAPPING,
    "arms": _MAPPING,
    "seeds": Setting(("array",), item=_WHOLE),
    "primary_score": _TEXT,
    "settings": _MAPPING,
    "evaluation": _MAPPING,
    "search": _MAPPING,
    "equal_flops": Setting((), choices=get_args(EqualFlops)),
    "overlap": Setting((), choices=get_args(Overlap)),
    "threshold": Setting(("number", "null")),
    "keep_models": _FLAG,
}
REQUIRED = ("recipe", "output_dir", "baseline", "arms", "seeds")
EVALUATION_KEYS = {
    "max_rows": Setting(("integer", "null")),
    "max_new_tokens": _WHOLE,
    "eval_batch_size": _WHOLE,
    "every_steps": Setting(("integer", "null")),
}
SEARCH_KEYS = {
    "split": _TEXT,
    "grid": _MAPPING,
    "grids": _MAPPING,
    "longer_baseline": Setting((), choices=get_args(LongerBaseline)),
}


@dataclass(frozen=True)
class Evaluation:
    """How every cell is evaluated. All share these settings, since batches and limits change generated texts.

    Attributes:
        max_rows: Number of rows drawn from `dataset_test_split`; None for all.
        max_new_tokens: Limit of generated tokens per row.
        eval_batch_size: Rows per batch.
        every_steps: Optimizer steps between two evaluations along the training; None for the end alone.
    """

    max_rows: int | None = None
    max_new_tokens: int = 128
    eval_batch_size: int = 16
    every_steps: int | None = None


@dataclass(frozen=True)
class Search:
    """A search for hyper-parameters: every arm tries the points of its grid with a seed of its own, on a dev split.

    Attributes:
        split: The split that scores the points, e.g. `train[90%:]`; neither trained nor tested on.
        grids: Arm -> setting -> values to try. All grids have the same number of points.
        longer_baseline: Whether the baseline's longer schedule of the equal-FLOPs comparison searches its grid anew,
            or inherits the baseline's settings.
    """

    split: str
    grids: dict[str, dict[str, list[Any]]]
    longer_baseline: LongerBaseline = "search"

    def points(self, arm: str) -> list[Settings]:
        """Every combination of the values in an arm's grid."""
        grid = self.grids[arm]
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


@dataclass(frozen=True)
class Experiment:
    """The content of an experiment file; see `llm_jepa.experiments.spec_reading`.

    Attributes:
        base: The settings of the recipe, overridden by `settings`.
        arms: Arm -> settings that override `base`.
        seeds: Paired: every arm trains with each.
        primary_score: The score that decides the verdicts.
        equal_flops: Whose FLOPs the baseline's longer schedule has: each arm's in turn, those of the costliest arm for
            all arms, or that no arm is compared at equal FLOPs.
        overlap: What to do about rows that are in two of the splits trained, searched and tested on.
        threshold: A primary score; the share of seeds that reach it is an outcome too.
        keep_models: Whether the cells keep their trained models.
        compared_with: Arm -> the arms that are its baselines in the place of `baseline`.
    """

    path: Path
    recipe: Path
    output_dir: Path
    baseline: str
    arms: dict[str, Settings]
    seeds: list[int]
    base: Settings
    primary_score: str
    settings: Settings = field(default_factory=dict)
    evaluation: Evaluation = field(default_factory=Evaluation)
    search: Search | None = None
    equal_flops: EqualFlops = "each_arm"
    overlap: Overlap = "refuse"
    threshold: float | None = None
    keep_models: bool = False
    compared_with: dict[str, list[str]] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """What the recipe trains."""
        return recipe_kind(self.base)

    @property
    def compared_arms(self) -> list[str]:
        """All arms except the baseline."""
        return [arm for arm in self.arms if arm != self.baseline]

    def baselines(self) -> dict[str, list[str]]:
        """Arm -> the arms that it is compared with."""
        return {arm: self.compared_with.get(arm, [self.baseline]) for arm in self.compared_arms}

    def resolved(self, arm: str, *overrides: Mapping[str, Any]) -> Settings:
        """All settings of an arm, with further overrides."""
        merged = self.base | self.arms[arm]
        for settings in overrides:
            merged = merged | dict(settings)
        return merged

    def variants(self, arm: str) -> list[Settings]:
        """The settings of an arm at every point of its grid."""
        points: list[Settings] = [{}] if self.search is None else self.search.points(arm)
        return [self.resolved(arm, point) for point in points]

    def test_split(self) -> str:
        """The split that every cell is tested on."""
        return self.base.get("dataset_test_split", known_settings(self.kind)["dataset_test_split"].default)


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """Settings for an error or a report. Example: `learning_rate 0.001, jepa_weight 2.0`."""
    return ", ".join(f"{key} {value}" for key, value in settings.items())
