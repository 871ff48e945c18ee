"""What the arms of an experiment train on: the rows that every arm keeps, and the splits that must not overlap.

An arm drops the rows whose sequences exceed `max_length`, and its views and predictor tokens make sequences longer. In
a comparison, a row that one arm would drop is dropped for all.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llm_jepa.data.preparation import read_excluded_rows
from llm_jepa.evaluation.golds import check_golds
from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.experiments.arm_cost import ArmCost, count_arm
from llm_jepa.experiments.spec import Experiment
from llm_jepa.experiments.splits import SharedRows, digest, fingerprint, row_keys, shared_rows
from llm_jepa.files.atomic import write_atomically
from llm_jepa.inspection.prepared_recipe import PreparedRecipe, prepare_recipe
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.recipe import Recipe, build_recipe

EXCLUDED_ROWS_FILE = "excluded_rows.json"
KEYS_WITHOUT_EFFECT_ON_ROWS = frozenset(
    {
        "learning_rate",
        "lm_weight",
        "weight_decay",
        "warmup_steps",
        "lr_scheduler_type",
        "info_nce_temperature",
        "regulariser_weight",
        "seed",
    }
)
"""Arms that differ in these alone share their prepared rows. Any other key may stand here only if it cannot matter."""


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
    _prepared: dict[str, PreparedRecipe] = field(default_factory=dict)
    _kept: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _fingerprints: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file that names the excluded rows; the cells read it."""
        return self.experiment.output_dir / EXCLUDED_ROWS_FILE

    def write(self) -> None:
        """Write the indices of the excluded rows for the cells, with those that the recipe excludes."""
        own = self.experiment.base.get("excluded_rows")
        excluded = {*self.excluded, *(read_excluded_rows(Path(own)) if own is not None else ())}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(json.dumps(sorted(excluded)) + "\n", self.path)

    def cost(self, settings: Mapping[str, Any]) -> ArmCost:
        """What training with these settings costs on the common rows."""
        recipe = recipe_of(self.experiment, settings)
        return count_arm(recipe, self.prepared(settings), self._kept_rows(settings))

    def fingerprint(self, settings: Mapping[str, Any]) -> str:
        """A fingerprint of the tokens that training with these settings sees."""
        key = _rows_key(settings)
        if key not in self._fingerprints:
            self._fingerprints[key] = fingerprint(map(digest, self._kept_rows(settings)))
        return self._fingerprints[key]

    def prepared(self, settings: Mapping[str, Any]) -> PreparedRecipe:
        """The rows that training with these settings would keep by itself."""
        key = _rows_key(settings)
        if key not in self._prepared:
            self._prepared[key] = prepare_recipe(recipe_of(self.experiment, settings))
        return self._prepared[key]

    def _kept_rows(self, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
        key = _rows_key(settings)
        if key not in self._kept:
            excluded = set(self.excluded)
            rows = self.prepared(settings).rows
            self._kept[key] = [row for row in rows if row["row_index"] not in excluded]
        return self._kept[key]


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
            prepared = common.prepared(settings)
            dropped = [index for index, _ in prepared.dropped]
            excluded.update(dropped)
            common.dropped[arm] = max(common.dropped.get(arm, 0), len(dropped))
            numbers[arm] = len(prepared.rows) + len(dropped)
    assert len({*numbers.values()}) == 1, "no arm sets a key that decides the rows"
    common.num_rows, common.excluded = next(iter(numbers.values())), sorted(excluded)
    if len(common.excluded) == common.num_rows:
        raise ValueError(
            f"{experiment.path}: every one of the {common.num_rows} rows is longer than `max_length` in some arm "
            f"({_listed(common.dropped)}). Raise `max_length`."
        )
    return common


def check_test_golds(experiment: Experiment) -> None:
    """Check the golds of the splits that score the cells, before any cell trains. Logs those that are left out.

    Raises:
        ValueError: The task can score by none of a split's golds.
    """
    settings = experiment.resolved(experiment.baseline)
    splits = [] if experiment.search is None else [{"dataset_test_split": experiment.search.split}]
    for split in [*splits, {}]:
        recipe = recipe_of(experiment, {**settings, **split})
        rows = load_rows(recipe, load_run_tokenizer(recipe), experiment.evaluation.max_rows)
        check_golds(recipe.training.task, rows, recipe.training.extract)


def recipe_of(experiment: Experiment, settings: Mapping[str, Any]) -> Recipe:
    """Settings of a cell as a recipe."""
    return build_recipe(experiment.recipe, {**settings, "output_dir": str(experiment.output_dir)})


def _compare_splits(common: CommonRows) -> None:
    experiment = common.experiment
    recipe = recipe_of(experiment, experiment.resolved(experiment.baseline))
    names = [recipe.script.dataset_train_split]
    names += [] if experiment.search is None else [experiment.search.split]
    names += [recipe.script.dataset_test_split]
    keys = {name: row_keys(recipe, name) for name in dict.fromkeys(names)}
    if len(keys) < len(names):
        raise ValueError(
            f"{experiment.path}: the splits {', '.join(names)} must differ: a split that is trained on cannot choose "
            "settings, and neither can test."
        )
    common.shared = shared_rows(keys)
    if common.shared and experiment.overlap == "refuse":
        raise ValueError(
            f"{experiment.path}: {' '.join(one.sentence for one in common.shared)} A score on rows that were trained "
            "on proves nothing. Remove them from the data, name splits that do not overlap, or set `overlap: count` "
            "to have them counted in the report."
        )
    common.test_fingerprints = {name: _test_fingerprint(experiment, name) for name in names[1:]}


def _test_fingerprint(experiment: Experiment, split: str) -> str:
    recipe = recipe_of(experiment, experiment.resolved(experiment.baseline, {"dataset_test_split": split}))
    return fingerprint(digest(asdict(row)) for row in load_rows(recipe, load_run_tokenizer(recipe)))


def _rows_key(settings: Mapping[str, Any]) -> str:
    seen = {key: value for key, value in settings.items() if key not in KEYS_WITHOUT_EFFECT_ON_ROWS}
    if seen.get("jepa_weight", 1) > 0:
        seen.pop("jepa_weight", None)
    return json.dumps(seen, sort_keys=True, default=str)


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{arm} {number}" for arm, number in numbers.items())
