"""Reads an experiment file: arms x seeds over one base recipe. Imports no torch."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

from llm_jepa.experiments.score_choice import possible_scores
from llm_jepa.experiments.spec_checks import check_experiment
from llm_jepa.settings.reading import read_settings, typed, typed_settings
from llm_jepa.settings.schema import VISION_KEY, Kind, Setting, known_settings, recipe_kind
from llm_jepa.settings.yaml_mapping import Entry, YamlMapping, read_yaml_mapping

Settings = dict[str, Any]
Overlap = Literal["refuse", "count"]
LongerBaseline = Literal["search", "inherit"]
EqualFlops = Literal["each_arm", "costliest_arm", "none"]

_TEXT, _WHOLE, _FLAG = Setting(("string",)), Setting(("integer",)), Setting(("boolean",))
_MAPPING, _BASELINES = Setting(("object",)), Setting(("string", "array"), item=_TEXT)
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
    """The content of an experiment file; see `read_experiment`.

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


def read_experiment(path: Path) -> Experiment:
    """Read an experiment file and check it, including the settings of every arm at every point of its grid.

    Raises:
        ValueError: A key is unknown, missing, given twice or of the wrong kind, or an arm's settings are refused.
    """
    file = read_yaml_mapping(path, "experiment")
    if {"model_name_or_path", VISION_KEY} & {*file.keys()}:
        raise ValueError(
            f"{path} is a recipe, and an experiment compares arms of one. Train it by `llm-jepa train {path}`, or "
            "name it as `recipe` in an experiment."
        )
    content = _section(file, EXPERIMENT_KEYS, REQUIRED, str(path))
    recipe = Path(content["recipe"])
    own = _without_output_dir(read_settings(recipe))
    kind = recipe_kind(own)
    arms = {arm: _settings(section, kind) for arm, section in _subsections(file, "arms").items()}
    if content["baseline"] not in arms:
        raise ValueError(f"{path}: `baseline: {content['baseline']}` is not one of the arms {', '.join(arms)}.")
    evaluation, search = file.section("evaluation"), file.section("search")
    settings = _settings(file.section("settings"), kind)
    content.setdefault("primary_score", possible_scores(own | settings)[0])
    content |= {
        "path": path,
        "recipe": recipe,
        "output_dir": Path(content["output_dir"]),
        "arms": arms,
        "compared_with": _read_compared_with(file.section("compared_with")),
        "settings": settings,
        "base": own | settings,
        "evaluation": Evaluation() if evaluation is None else _read_evaluation(evaluation, path, kind),
        "search": None if search is None else _read_search(search, path, list(arms), kind),
    }
    known = {one.name for one in fields(Experiment)}
    experiment = Experiment(**{key: value for key, value in content.items() if key in known})
    check_experiment(experiment)
    return experiment


def _section(section: YamlMapping, known: Mapping[str, Setting], required: Sequence[str], where: str) -> Settings:
    content = {entry.key: typed(entry, known) for entry in section.entries()}
    missing = [key for key in required if content.get(key) is None]
    if missing:
        raise ValueError(f"{where}: `{'`, `'.join(missing)}` must be given.")
    return content


def _subsections(section: YamlMapping, key: str) -> dict[str, YamlMapping | None]:
    inner = section.section(key)
    return {} if inner is None else {name: inner.section(name) for name in inner.keys()}  # noqa: SIM118 (no mapping)


def _settings(section: YamlMapping | None, kind: Kind) -> Settings:
    return {} if section is None else typed_settings(section.entries(), kind)


def _read_compared_with(section: YamlMapping | None) -> dict[str, list[str]]:
    entries = [] if section is None else section.entries()
    read = {entry.key: typed(entry, {entry.key: _BASELINES}) for entry in entries}
    return {arm: [baselines] if isinstance(baselines, str) else baselines for arm, baselines in read.items()}


def _without_output_dir(settings: Settings) -> Settings:
    return {key: value for key, value in settings.items() if key != "output_dir"}


def _read_evaluation(section: YamlMapping, path: Path, kind: Kind) -> Evaluation:
    content = _section(section, EVALUATION_KEYS, (), f"{path}: `evaluation`")
    if kind == "vision" and "max_new_tokens" in content:
        raise ValueError(
            f"{path}: `evaluation`: `max_new_tokens` has no effect: answers of VL-JEPA are chosen among candidates. "
            "Leave it out."
        )
    for key, value in content.items():
        if value is not None and value < 1:
            raise ValueError(f"{path}: `evaluation`: `{key}` is {value}; it must be at least 1.")
    return Evaluation(**content)


def _read_search(section: YamlMapping, path: Path, arms: list[str], kind: Kind) -> Search:
    where = f"{path}: `search`"
    content = _section(section, SEARCH_KEYS, ("split",), where)
    shared, own = section.section("grid"), _subsections(section, "grids")
    if (shared is None) == (not own):
        raise ValueError(
            f"{where}: give either `grid`, the values that every arm tries, or `grids`, which has a grid for each of "
            f"the arms {', '.join(arms)}."
        )
    if own and {*own} != {*arms}:
        raise ValueError(
            f"{where}: `grids` has {', '.join(own)}, and the arms are {', '.join(arms)}. Give every arm a grid of its "
            "own: what is searched for one arm alone favours it."
        )
    grids = {arm: _grid(own[arm] if own else shared, f"{where}, arm `{arm}`", kind) for arm in arms}
    return Search(content["split"], grids, cast(LongerBaseline, content.get("longer_baseline", "search")))


def _grid(section: YamlMapping | None, where: str, kind: Kind) -> dict[str, list[Any]]:
    if section is None or not section.keys():
        raise ValueError(f"{where}: the grid is empty. Name at least `learning_rate` with values to try.")
    grid = {}
    for entry in section.entries():
        if not isinstance(entry.value, list) or not entry.value:
            raise ValueError(f"{entry.where}: `{entry.key}` is {entry.value!r}; give a list of values to try.")
        if entry.key not in known_settings(kind):
            typed(entry, known_settings(kind))  # raises, and names the nearest key
        values = [Entry(entry.key, value, entry.where) for value in entry.value]
        grid[entry.key] = [typed_settings([value], kind)[entry.key] for value in values]
    return grid
