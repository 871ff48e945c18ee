"""Checks an experiment: its arms, their settings and the grids of its search. Imports no torch."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from llm_jepa.experiments.score_choice import possible_scores
from llm_jepa.experiments.series_names import arm_of
from llm_jepa.experiments.spec import Experiment, Search, Settings, settings_in_words
from llm_jepa.options.next_latent import NextLatentOptions
from llm_jepa.options.objective import ObjectiveOptions
from llm_jepa.options.pair import PairOptions
from llm_jepa.runs.output_directory import check_place
from llm_jepa.runs.record import KEYS_WITHOUT_EFFECT_ON_RESULT, RECIPE_FILE, SCORING_KEYS
from llm_jepa.settings.checks import check_settings
from llm_jepa.settings.schema import Kind, known_settings

SET_BY_EXPERIMENT = frozenset(
    {"seed", "data_seed", "output_dir", "max_steps", "excluded_rows", "resume_from_checkpoint"}
)
"""Keys that an experiment sets for each cell."""
DATA_KEYS = ("dataset_name", "dataset_config", "dataset_train_split", "dataset_test_split", "dataset_streaming")
SAME_FOR_ALL: dict[Kind, frozenset[str]] = {
    "text": frozenset(
        {
            *DATA_KEYS,
            *("source_column", "target_column", "target_turn", "view_columns", "view_pairs", "missing_views"),
            *SCORING_KEYS,
        }
    ),
    "vision": frozenset({*DATA_KEYS, "image_column", "question_column", "answer_column", "candidates_column"}),
}
"""Keys that no arm may set by itself, since all train and test on the same rows."""
SEARCH_SEED = 1_000
"""The seed of every point of a search, with which no arm is compared."""
STEP_KEYS = frozenset(
    {
        *("num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps"),
        *("auto_find_batch_size", "dataloader_drop_last"),
    }
)
"""Keys that change the number of steps or their rows, which arms and searches must leave alone."""
CHOOSES_BY_EVALUATION: dict[str, tuple[Any, ...]] = {
    "load_best_model_at_end": (True,),
    "lr_scheduler_type": ("reduce_lr_on_plateau", "greedy"),
}
"""Settings by which the evaluations of a training, on the test split, decide what is scored on it."""
OPTIONS_OF_THE_TERM = frozenset(
    option.name for options in (ObjectiveOptions, PairOptions, NextLatentOptions) for option in fields(options)
) - {"jepa_weight", "lm_weight"}
"""Options of the JEPA term, idle with `jepa_weight: 0`."""
ARM_NAME = re.compile(r"\w[\w .,+=()-]{0,79}")
"""A name that is also a directory's, and text of a table and a figure."""


def check_experiment(experiment: Experiment) -> None:
    """Check the settings of every arm, at every point of its grid.

    Raises:
        ValueError: They are refused; the message says what to change.
    """
    path = experiment.path
    check_place(experiment.output_dir)
    if (experiment.output_dir / RECIPE_FILE).is_file():
        raise ValueError(
            f"{path}: `output_dir: {experiment.output_dir}` holds a run ({RECIPE_FILE}). Name a directory for the "
            "experiment alone."
        )
    if not experiment.compared_arms:
        raise ValueError(f"{path}: there is no arm beside the baseline. Add at least one.")
    seeds = experiment.seeds
    if experiment.search is not None and SEARCH_SEED in seeds:
        raise ValueError(f"{path}: `seeds` has {SEARCH_SEED}, the seed of the search. Name another.")
    if not seeds or len({*seeds}) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**32:
        raise ValueError(f"{path}: `seeds` are {seeds}; give whole numbers from 0 and below 2^32, each once.")
    if experiment.threshold is not None and not 0 < experiment.threshold <= 1:
        raise ValueError(f"{path}: `threshold` is {experiment.threshold}; give a share of rows above 0, at most 1.")
    if experiment.threshold is not None and experiment.evaluation.every_steps is None:
        raise ValueError(
            f"{path}: `threshold` asks when a run reaches a score. Set `every_steps` under `evaluation`, the steps "
            "between two evaluations along the training."
        )
    _check_arm_names(experiment)
    _check_compared_with(experiment)
    _check_shared_settings(experiment)
    _check_search(experiment)
    for arm in experiment.arms:
        _check_arm(experiment, arm)
        for settings in experiment.variants(arm):
            _refuse_choice_on_test_split(experiment, arm, settings)
            check_settings(f"{path}: arm `{arm}`", settings | {"output_dir": str(experiment.output_dir)})
    _refuse_equal_arms(experiment)


def _check_arm_names(experiment: Experiment) -> None:
    path, names = experiment.path, [*experiment.arms]
    for place, name in enumerate(names):
        if not ARM_NAME.fullmatch(name):
            raise ValueError(
                f"{path}: the arm {name!r} cannot name a directory. Use at most 80 letters, digits, spaces and "
                "_ . , + = ( ) -, a letter or digit first."
            )
        if arm_of(name) != name:
            raise ValueError(
                f"{path}: the arm `{name}` ends as longer baselines do, in a number of steps. Give it another name."
            )
        if name.lower() in [other.lower() for other in names[:place]]:
            raise ValueError(
                f"{path}: the arm `{name}` differs from another in upper and lower case alone. Rename one."
            )


def _check_compared_with(experiment: Experiment) -> None:
    path, compared = experiment.path, experiment.compared_arms
    for arm, baselines in experiment.compared_with.items():
        is_known = arm in compared and {*baselines} <= {*experiment.arms} - {arm}
        if not is_known or len({*baselines}) < len(baselines):
            raise ValueError(
                f"{path}: `compared_with` has `{arm}: {', '.join(baselines)}`. Name one of the arms "
                f"{', '.join(compared)}, and the other arms that are its baselines, each once."
            )


def _check_shared_settings(experiment: Experiment) -> None:
    path = experiment.path
    taken = {"seed", "output_dir"} & {*experiment.settings}
    if taken:
        raise ValueError(
            f"{path}: `settings` has `{'`, `'.join(sorted(taken))}`, which the experiment sets for each cell. Remove "
            "it, and use `seeds` and `output_dir` of the experiment."
        )
    if experiment.base.get("resume_from_checkpoint"):
        raise ValueError(
            f"{path}: `resume_from_checkpoint` is set. Cells train from the start, and resume by themselves after a "
            "kill. Remove it."
        )
    if experiment.base.get("data_seed") is not None:
        raise ValueError(
            f"{path}: `data_seed` gives every seed the same order of rows, so that runs with different seeds would be "
            "less different than they claim to be. Remove it: the seed of a cell decides its order."
        )
    if experiment.base.get("auto_find_batch_size"):
        raise ValueError(
            f"{path}: `auto_find_batch_size: true` gives an arm that runs out of memory smaller batches, and so more "
            "steps than the others. Remove it, and set a `per_device_train_batch_size` that fits every arm, with "
            "`gradient_accumulation_steps` for larger steps."
        )


def _refuse_equal_points(experiment: Experiment, search: Search, arm: str) -> None:
    """An arm whose points train alike searches less than the arms with as many points."""
    tried = [(point, _with_effect(experiment.resolved(arm, point), experiment.kind)) for point in search.points(arm)]
    for (one, trained), (other, trained_too) in itertools.combinations(tried, 2):
        if trained == trained_too:
            raise ValueError(
                f"{experiment.path}: the grid of arm `{arm}` has points that train alike: {settings_in_words(one)}; "
                f"{settings_in_words(other)}. {_ALIKE} Name other values, or give the arm a grid of its own under "
                "`search.grids`."
            )


def _refuse_equal_arms(experiment: Experiment) -> None:
    trained = {
        arm: [_with_effect(settings, experiment.kind) for settings in experiment.variants(arm)]
        for arm in experiment.arms
    }
    for one, other in itertools.combinations(trained, 2):
        if trained[one] == trained[other]:
            raise ValueError(
                f"{experiment.path}: the arms `{one}` and `{other}` train alike. {_ALIKE} Remove one, or change what "
                "they should differ in."
            )


_ALIKE = (
    "They have the same settings once defaults, what `jepa_weight: 0` makes idle, and what changes no result are left "
    "out."
)


def _with_effect(settings: Settings, kind: Kind) -> Settings:
    """The settings that are not at their defaults and decide the result, without those of an objective of weight 0."""
    known = known_settings(kind)
    given = {key: value for key, value in settings.items() if value != known[key].default}
    idle = KEYS_WITHOUT_EFFECT_ON_RESULT | (OPTIONS_OF_THE_TERM if given.get("jepa_weight") == 0 else frozenset())
    return {key: value for key, value in given.items() if key not in idle}


def _check_arm(experiment: Experiment, arm: str) -> None:
    settings, path = experiment.resolved(arm), experiment.path
    taken = SET_BY_EXPERIMENT & {*experiment.arms[arm]}
    if taken:
        raise ValueError(
            f"{path}: arm `{arm}` sets `{'`, `'.join(sorted(taken))}`, which the experiment sets for each cell. "
            "Remove it."
        )
    shared = SAME_FOR_ALL[experiment.kind] & {*experiment.arms[arm]}
    if shared:
        raise ValueError(
            f"{path}: arm `{arm}` sets `{'`, `'.join(sorted(shared))}`; all arms train and test on the same rows. Put "
            "it under `settings`."
        )
    steps = STEP_KEYS & {*experiment.arms[arm]}
    if steps:
        raise ValueError(
            f"{path}: arm `{arm}` sets `{'`, `'.join(sorted(steps))}`; all arms share steps and micro-batches. Put "
            "it under `settings`: what fits the costliest arm fits all."
        )
    if settings.get("push_to_hub"):
        raise ValueError(
            f"{path}: arm `{arm}` has `push_to_hub: true`, so that each cell would overwrite the one published "
            "before. Remove it, and publish one cell: llm-jepa push DIRECTORY --repo_id USER/NAME."
        )
    if settings.get("dataset_streaming"):
        raise ValueError(
            f"{path}: arm `{arm}` has `dataset_streaming: true`. A comparison must know all rows, so that every arm "
            "trains on the same ones. Set it to false, or name a part of the data."
        )
    names = possible_scores(settings)
    if experiment.primary_score not in names:
        of = f"`task: {settings.get('task', 'text')}`" if experiment.kind == "text" else "a recipe of VL-JEPA"
        raise ValueError(
            f"{path}: `primary_score` is {experiment.primary_score!r}; allowed with {of} are {', '.join(names)}."
        )
    if experiment.search and experiment.search.split == experiment.test_split():
        raise ValueError(
            f"{path}: `search.split` is the test split `{experiment.search.split}`, which must not choose settings. "
            "Name a part of the training data that the recipe leaves out."
        )


def _refuse_choice_on_test_split(experiment: Experiment, arm: str, settings: Mapping[str, Any]) -> None:
    chosen = [key for key, values in CHOOSES_BY_EVALUATION.items() if settings.get(key) in values]
    if chosen:
        value = str(settings[chosen[0]]).lower()
        raise ValueError(
            f"{experiment.path}: arm `{arm}` has `{chosen[0]}: {value}`, which chooses by the split that scores the "
            f"cells, `{experiment.test_split()}`. Set another value under `settings`; what is to be chosen, choose by "
            "`search`, on a split of its own."
        )


def _check_search(experiment: Experiment) -> None:
    search, path = experiment.search, experiment.path
    if search is None:
        return
    for arm, grid in experiment.arms.items():
        both = [key for key in search.grids[arm] if key in grid]
        if both:
            raise ValueError(
                f"{path}: arm `{arm}` sets `{'`, `'.join(both)}`, which its grid would override. Remove it from the "
                "arm, or give each arm a grid of its own under `search.grids`."
            )
        if "learning_rate" not in search.grids[arm]:
            raise ValueError(
                f"{path}: the grid of arm `{arm}` lacks `learning_rate`. The best rate differs between arms; search "
                "it for every arm."
            )
        taken = SET_BY_EXPERIMENT & {*search.grids[arm]}
        if taken:
            raise ValueError(
                f"{path}: the grid of arm `{arm}` has `{'`, `'.join(sorted(taken))}`, which the experiment sets for "
                "each cell. Remove it."
            )
        shared = (SAME_FOR_ALL[experiment.kind] | STEP_KEYS) & {*search.grids[arm]}
        if shared:
            raise ValueError(
                f"{path}: the grid of arm `{arm}` has `{'`, `'.join(sorted(shared))}`. All points train on the same "
                "rows in the same number of steps; put it under `settings`."
            )
    for arm in experiment.arms:
        _refuse_equal_points(experiment, search, arm)
    numbers = {arm: len(search.points(arm)) for arm in experiment.arms}
    if len({*numbers.values()}) > 1:
        shown = ", ".join(f"{arm} {number}" for arm, number in numbers.items())
        raise ValueError(
            f"{path}: the grids have different numbers of points ({shown}), which favours the arm with more. Give "
            "every arm the same number, e.g. more rates to an arm that has nothing else to search."
        )
