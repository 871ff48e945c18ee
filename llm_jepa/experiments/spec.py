"""Reads an experiment file, arms x seeds over one base recipe, and lists the cells to run.

There are two comparisons. *Equal steps*: every arm trains as long as the recipe says. *Equal FLOPs*: an arm that
computes r times as much as the baseline per step is compared with a baseline that trains r times the steps, on its own
schedule. Cells that both comparisons need are run once.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from llm_jepa.recipe import Recipe, parse_recipe
from llm_jepa.scoring.tasks import score_names

Settings = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """How every cell is evaluated. All share these settings, since batches and limits change generated texts.

    Attributes:
        max_rows: Number of rows from the start of `dataset_test_split`; None for all.
        max_new_tokens: Limit of generated tokens per row.
        eval_batch_size: Rows per batch.
    """

    max_rows: int | None = None
    max_new_tokens: int = 128
    eval_batch_size: int = 16


@dataclass(frozen=True)
class Search:
    """A search for hyper-parameters: every arm tries every point with the first seed, not on the test split.

    Attributes:
        split: The split that scores the points, e.g. `train[90%:]`; the recipe must not train on it.
        grid: Setting -> values to try.
    """

    split: str
    grid: dict[str, list[Any]]

    def points(self) -> list[Settings]:
        """Every combination of the grid's values."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


@dataclass(frozen=True)
class Cell:
    """One training run with its evaluation.

    Attributes:
        arm: Name of the arm or, on a longer schedule, of the series.
        seed: Seed of new weights, data order and draws.
        settings: Settings that override the base recipe, without the seed.
        directory: Its directory, below the experiment's `output_dir`.
        test_split: The split to score on; None for the recipe's `dataset_test_split`.
    """

    arm: str
    seed: int
    settings: Settings
    directory: Path
    test_split: str | None = None


@dataclass(frozen=True)
class Experiment:
    """The content of an experiment file; see `read_experiment`."""

    path: Path
    recipe: Path
    output_dir: Path
    baseline: str
    arms: dict[str, Settings]
    seeds: list[int]
    primary_score: str = "strict"
    settings: Settings = field(default_factory=dict)
    evaluation: Evaluation = field(default_factory=Evaluation)
    search: Search | None = None
    equal_flops: bool = True
    keep_models: bool = False

    @property
    def compared_arms(self) -> list[str]:
        """All arms except the baseline."""
        return [arm for arm in self.arms if arm != self.baseline]

    def parse(self, settings: Mapping[str, Any]) -> Recipe:
        """The base recipe overridden by settings, checked as in `llm-jepa train`."""
        return parse_recipe([str(self.recipe), *as_overrides({**self.settings, **settings})])


def read_experiment(path: Path) -> Experiment:
    """Read an experiment file and check it, including the recipe of every arm.

    Raises:
        ValueError: A key is unknown, missing or of the wrong kind, or an arm's settings are refused.
    """
    if not path.is_file():
        raise ValueError(f"There is no experiment `{path}` (looked in {Path.cwd()}).")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: invalid YAML: {error}") from error
    known = {name: kind for name, kind in Experiment.__annotations__.items() if name != "path"}
    _check_keys(path, content, known, required=("recipe", "output_dir", "baseline", "arms", "seeds"))
    content = dict(content)
    content["evaluation"] = _section(path, "evaluation", content.get("evaluation") or {}, Evaluation)
    search = content.get("search")
    content["search"] = None if search is None else _section(path, "search", search, Search)
    content["recipe"], content["output_dir"] = Path(content["recipe"]), Path(content["output_dir"])
    content["arms"] = {str(arm): dict(settings or {}) for arm, settings in content["arms"].items()}
    experiment = Experiment(path=path, **content)
    _check(experiment)
    return experiment


def as_overrides(settings: Mapping[str, Any]) -> list[str]:
    """Settings as command line options."""
    return [f"--{key}={_as_text(value)}" for key, value in settings.items()]


def search_cells(experiment: Experiment) -> Iterator[tuple[str, int, Cell]]:
    """Yield arm, index of a grid point, and the cell that tries it."""
    assert experiment.search is not None
    for arm, settings in experiment.arms.items():
        for number, point in enumerate(experiment.search.points()):
            directory = experiment.output_dir / "search" / arm / str(number)
            seed = experiment.seeds[0]
            yield arm, number, Cell(arm, seed, settings | point, directory, experiment.search.split)


def cells_of(experiment: Experiment, arm: str, chosen: Settings, max_steps: int | None = None) -> dict[int, Cell]:
    """Seed -> cell of an arm with its chosen settings; `max_steps` sets another schedule."""
    schedule = {} if max_steps is None else {"max_steps": max_steps}
    name = arm if max_steps is None else f"{arm}-{max_steps}-steps"
    settings = experiment.arms[arm] | chosen | schedule
    return {
        seed: Cell(name, seed, settings, experiment.output_dir / "cells" / name / str(seed))
        for seed in experiment.seeds
    }


def _check(experiment: Experiment) -> None:
    path = experiment.path
    if experiment.baseline not in experiment.arms:
        raise ValueError(
            f"{path}: `baseline: {experiment.baseline}` is not one of the arms {', '.join(experiment.arms)}."
        )
    if not experiment.compared_arms:
        raise ValueError(f"{path}: there is no arm beside the baseline. Add at least one.")
    seeds = experiment.seeds
    if not seeds or len({*seeds}) < len(seeds) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ValueError(f"{path}: `seeds` are {seeds}; give whole numbers from 0, each once.")
    for arm, settings in experiment.arms.items():
        taken = {"seed", "output_dir", "max_steps"} & {*settings}
        if taken:
            raise ValueError(
                f"{path}: arm `{arm}` sets `{'`, `'.join(sorted(taken))}`, which the experiment sets for each cell. "
                "Remove it."
            )
        try:
            recipe = experiment.parse(settings)
        except ValueError as error:
            raise ValueError(f"{path}: arm `{arm}`: {error}") from error
        if recipe.training.push_to_hub:
            raise ValueError(
                f"{path}: arm `{arm}` has `push_to_hub: true`, so that each cell would overwrite the one "
                "published before. Remove it, and publish one cell: llm-jepa push DIRECTORY --repo_id USER/NAME."
            )
        names = score_names(recipe.training.task)
        if experiment.primary_score not in names:
            raise ValueError(
                f"{path}: `primary_score` is {experiment.primary_score!r}; allowed with `task: "
                f"{recipe.training.task}` are {', '.join(names)}."
            )
        if experiment.search and experiment.search.split == recipe.script.dataset_test_split:
            raise ValueError(
                f"{path}: `search.split` is the test split `{experiment.search.split}`, which must not choose "
                "settings. Name a part of the training data that the recipe leaves out."
            )


def _section(path: Path, name: str, content: Any, kind: type) -> Any:
    required = [key for key in kind.__annotations__ if not hasattr(kind, key)]
    _check_keys(Path(f"{path}: `{name}`"), content, kind.__annotations__, required)
    return kind(**content)


def _check_keys(where: Path, content: Any, known: Mapping[str, Any], required: Any) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{where}: must be a mapping with the keys {', '.join(known)}.")
    unknown = [str(key) for key in content if key not in known]
    if unknown:
        raise ValueError(f"{where}: unknown key `{'`, `'.join(unknown)}`; allowed are {', '.join(known)}.")
    missing = [key for key in required if content.get(key) is None]
    if missing:
        raise ValueError(f"{where}: `{'`, `'.join(missing)}` must be given.")


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
