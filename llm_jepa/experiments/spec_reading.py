"""Reads an experiment file. Imports no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from llm_jepa.experiments.score_choice import possible_scores
from llm_jepa.experiments.spec import (
    BASELINES,
    EVALUATION_KEYS,
    EXPERIMENT_KEYS,
    REQUIRED,
    SEARCH_KEYS,
    Evaluation,
    Experiment,
    LongerBaseline,
    Search,
    Settings,
)
from llm_jepa.experiments.spec_checks import check_experiment
from llm_jepa.settings.reading import read_settings, typed, typed_settings
from llm_jepa.settings.schema import VISION_KEY, Kind, Setting, known_settings, recipe_kind
from llm_jepa.settings.yaml_mapping import Entry, YamlMapping, read_yaml_mapping


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
    experiment = Experiment(**content)
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
    read = {entry.key: typed(entry, {entry.key: BASELINES}) for entry in entries}
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
