"""What the arms of an experiment train on: the rows that every arm keeps, and the splits that must not overlap.

An arm drops the rows whose sequences exceed `max_length`, and its views and predictor tokens make sequences longer. In
a comparison, a row that one arm would drop is dropped for all.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_jepa.data.preparation import read_excluded_rows
from llm_jepa.data.row_keys import SharedRows, shared_rows
from llm_jepa.experiments.interface import ArmCost, RecipeKind, TrainRows
from llm_jepa.experiments.kinds import kind_of
from llm_jepa.experiments.spec import Experiment
from llm_jepa.files.atomic import write_atomically
from llm_jepa.recipe import Recipe
from llm_jepa.vision.recipe import VisionRecipe, build_any_recipe

EXCLUDED_ROWS_FILE = "excluded_rows-{digest}.json"
"""Named by its content, so that experiments of other arms in the same directory leave it alone."""


@dataclass
class CommonRows:
    """The rows that every arm, at every point of its grid, can train on.

    Attributes:
        num_rows: Rows before an arm drops any, without those that the recipe excludes.
        excluded: Indices of the rows that some arm drops, in ascending order.
        dropped: Arm -> how many rows it would drop by itself, at most over its grid.
        shared: Rows that two splits share.
        test_fingerprints: Split -> fingerprint of all that its rows are scored by.
    """

    experiment: Experiment
    num_rows: int = 0
    excluded: list[int] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    shared: list[SharedRows] = field(default_factory=list)
    test_fingerprints: dict[str, str] = field(default_factory=dict)
    _train_rows: dict[str, TrainRows] = field(default_factory=dict)
    _fingerprints: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> RecipeKind:
        """What answers for the recipe."""
        return kind_of(self.experiment.base)

    @property
    def path(self) -> Path:
        """The file that names the excluded rows; the cells read it."""
        digest = hashlib.sha256(self._excluded_text().encode()).hexdigest()[:16]
        return self.experiment.output_dir / EXCLUDED_ROWS_FILE.format(digest=digest)

    @property
    def excluded_by_recipe(self) -> frozenset[int]:
        """The indices in the recipe's own file."""
        own = self.experiment.base.get("excluded_rows")
        return frozenset() if own is None else read_excluded_rows(Path(own))

    def write(self) -> None:
        """Write the indices of the excluded rows for the cells, if there are any."""
        if self.excluded:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._excluded_text(), self.path)

    def _excluded_text(self) -> str:
        """With the rows that the recipe excludes."""
        return json.dumps(sorted({*self.excluded, *self.excluded_by_recipe})) + "\n"

    def cost(self, settings: Mapping[str, Any]) -> ArmCost:
        """What training with these settings costs on the common rows."""
        return self.train_rows(settings).cost(recipe_of(self.experiment, settings), frozenset(self.excluded))

    def fingerprint(self, settings: Mapping[str, Any]) -> str:
        """A fingerprint of what training with these settings sees."""
        key = self.kind.rows_key(settings)
        if key not in self._fingerprints:
            self._fingerprints[key] = self.train_rows(settings).fingerprint(frozenset(self.excluded))
        return self._fingerprints[key]

    def train_rows(self, settings: Mapping[str, Any]) -> TrainRows:
        """The rows that training with these settings would keep by itself."""
        key = self.kind.rows_key(settings)
        if key not in self._train_rows:
            self._train_rows[key] = self.kind.train_rows(recipe_of(self.experiment, settings))
        return self._train_rows[key]


def find_common_rows(experiment: Experiment) -> CommonRows:
    """Prepare the rows of every arm at every point of its grid, and compare the splits.

    Raises:
        ValueError: The arms read different data, no row is left, or splits overlap and `overlap` is `refuse`.
    """
    common = CommonRows(experiment)
    _compare_splits(common)
    excluded: set[int] = set()
    numbers: dict[str, int] = {}
    for arm in experiment.arms:
        for settings in experiment.variants(arm):
            rows = common.train_rows(settings)
            excluded.update(rows.dropped)
            common.dropped[arm] = max(common.dropped.get(arm, 0), len(rows.dropped))
            numbers[arm] = rows.num_rows
    assert len({*numbers.values()}) == 1, "no arm sets a key that decides the rows"
    common.num_rows, common.excluded = next(iter(numbers.values())), sorted(excluded)
    if len(common.excluded) == common.num_rows:
        raise ValueError(
            f"{experiment.path}: every one of the {common.num_rows} rows is longer than `max_length` in some arm "
            f"({_listed(common.dropped)}). Raise `max_length`."
        )
    return common


def check_rows(experiment: Experiment) -> None:
    """Check the files of all splits and the rows of those that score the cells, before any cell trains.

    Logs golds that are left out.

    Raises:
        ValueError: A file is missing, or files or rows cannot be read, or the task can score by none of a split's
            golds.
    """
    settings, evaluation = experiment.resolved(experiment.baseline), experiment.evaluation
    kind, recipe = kind_of(settings), recipe_of(experiment, settings)
    limits = evaluation.max_rows, evaluation.max_new_tokens, evaluation.eval_batch_size
    splits = splits_of(experiment, recipe)
    for split in splits:
        kind.check_files(recipe, split)
    for split in splits[1:]:
        kind.held_out(recipe_of(experiment, {**settings, "dataset_test_split": split}), *limits)


def splits_of(experiment: Experiment, recipe: Recipe | VisionRecipe) -> list[str]:
    """The splits for training, for the search if there is one, and for the test.

    Raises:
        ValueError: Two have the same name.
    """
    searched = [] if experiment.search is None else [experiment.search.split]
    names = [recipe.source.dataset_train_split, *searched, recipe.source.dataset_test_split]
    if len(set(names)) < len(names):
        raise ValueError(
            f"{experiment.path}: the splits {', '.join(names)} must differ: a split that is trained on cannot choose "
            "settings, and neither can test."
        )
    return names


def recipe_of(experiment: Experiment, settings: Mapping[str, Any]) -> Recipe | VisionRecipe:
    """Settings of a cell as a recipe."""
    return build_any_recipe(experiment.recipe, {**settings, "output_dir": str(experiment.output_dir)})


def _compare_splits(common: CommonRows) -> None:
    experiment = common.experiment
    recipe = recipe_of(experiment, experiment.resolved(experiment.baseline))
    names = splits_of(experiment, recipe)
    keys = {name: common.kind.row_keys(recipe, name) for name in names}
    excluded = common.excluded_by_recipe
    keys[names[0]] = [key for index, key in enumerate(keys[names[0]]) if index not in excluded]
    common.shared = shared_rows(keys)
    if common.shared and experiment.overlap == "refuse":
        raise ValueError(
            f"{experiment.path}: {' '.join(one.sentence for one in common.shared)} A score on rows that were trained "
            "on proves nothing. Remove them from the data, name splits that do not overlap, or set `overlap: count` "
            "to have them counted in the report."
        )
    for name in names[1:]:
        tested = recipe_of(experiment, experiment.resolved(experiment.baseline, {"dataset_test_split": name}))
        common.test_fingerprints[name] = common.kind.test_fingerprint(tested)


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{arm} {number}" for arm, number in numbers.items())
