"""Lists the cells of an experiment: those of the search, and those of the comparisons.

There are two comparisons. *Equal steps*: every arm trains as long as the recipe says. *Equal FLOPs*: an arm that
computes r times as much as the baseline is compared with a baseline that trains r times the steps, on its own
schedule. Cells that both comparisons need are run once.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llm_jepa.experiments.cell_spec import CellSpec
from llm_jepa.experiments.common_rows import CommonRows
from llm_jepa.experiments.interface import ArmCost
from llm_jepa.experiments.series_names import series_name
from llm_jepa.experiments.spec import Experiment, Settings, settings_in_words
from llm_jepa.experiments.spec_checks import SEARCH_SEED
from llm_jepa.settings.objectives import objective_names, own_objective_file

Budget = Literal["equal_steps", "equal_flops"]
"""What is equal in the comparison of an arm with the baseline."""


@dataclass(frozen=True)
class Series:
    """An arm on its own schedule, or the baseline on a longer one.

    Attributes:
        name: The arm's name; with the number of steps for a longer schedule.
        max_steps: The longer schedule; None for the recipe's.
    """

    arm: str
    max_steps: int | None = None

    @property
    def name(self) -> str:
        return series_name(self.arm, self.max_steps)

    @property
    def schedule(self) -> Settings:
        return {} if self.max_steps is None else {"max_steps": self.max_steps}


@dataclass(frozen=True)
class Cell:
    """One training run with its evaluation.

    Attributes:
        series: Name of the series that it belongs to.
        seed: Seed of new weights, data order and draws.
        settings: All its settings, without `output_dir`.
        directory: Its directory, below the experiment's `output_dir`.
    """

    series: str
    seed: int
    settings: Settings
    directory: Path


def is_searched(experiment: Experiment, series: Series) -> bool:
    """Whether a series tries a grid; a longer baseline may inherit its settings."""
    search = experiment.search
    return search is not None and (series.max_steps is None or search.longer_baseline == "search")


def search_cells(experiment: Experiment, series: Series) -> list[Cell]:
    """The cells that try the points of an arm's grid, in their order, with the seed of the search on the dev split.

    The digest of a point names its directory, so that a point stays finished when others are added or left out.
    """
    assert experiment.search is not None
    cells = []
    for point in experiment.search.points(series.arm):
        settings = experiment.resolved(
            series.arm, point, series.schedule, {"seed": SEARCH_SEED, "dataset_test_split": experiment.search.split}
        )
        digest = hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()[:16]
        directory = experiment.output_dir / "search" / series.name / digest
        cells.append(Cell(series.name, SEARCH_SEED, settings, directory))
    return cells


def series_cells(experiment: Experiment, series: Series, chosen: Mapping[str, Any]) -> dict[int, Cell]:
    """Seed -> cell of a series with its chosen settings."""
    return {
        seed: Cell(
            series.name,
            seed,
            experiment.resolved(series.arm, chosen, series.schedule, {"seed": seed}),
            experiment.output_dir / "cells" / series.name / str(seed),
        )
        for seed in experiment.seeds
    }


def longer_baselines(experiment: Experiment, costs: Mapping[str, ArmCost]) -> dict[str, list[Series]]:
    """Arm -> the series of each of its baselines that computes as many FLOPs as the arm, or as its costliest arm.

    Example: at costs of 1.1 and 1.5 of a baseline of 100 steps, both arms are held against 150 steps of it under
    `costliest_arm`, and against 110 and 150 under `each_arm`.
    """
    if experiment.equal_flops == "none":
        return {}
    by_arm = experiment.baselines()
    steps = {
        (arm, baseline): flop_matched_steps(costs[arm], costs[baseline])
        for arm, baselines in by_arm.items()
        for baseline in baselines
    }
    if experiment.equal_flops == "costliest_arm":
        most: dict[str, int] = {}
        for (_, baseline), number in steps.items():
            most[baseline] = max(most.get(baseline, 0), number)
        steps = {pair: most[pair[1]] for pair in steps}
    return {
        arm: [Series(one, None if steps[arm, one] == costs[one].steps else steps[arm, one]) for one in baselines]
        for arm, baselines in by_arm.items()
    }


def check_longer_searches(experiment: Experiment, common: CommonRows) -> None:
    """Check that the points of a baseline cost alike where its longer schedule searches them anew.

    The cost of the point that the baseline chose decides the steps of the schedule, whichever point it chooses then.

    Raises:
        ValueError: They do not.
    """
    if experiment.search is None or experiment.equal_flops == "none" or experiment.search.longer_baseline == "inherit":
        return
    for baseline in dict.fromkeys(itertools.chain.from_iterable(experiment.baselines().values())):
        points = experiment.search.points(baseline)
        costs = [common.cost(experiment.resolved(baseline, point)).flops_per_step for point in points]
        cheapest, costliest = (points[costs.index(cost)] for cost in (min(costs), max(costs)))
        if cheapest != costliest:
            raise ValueError(
                f"{experiment.path}: the points of the baseline `{baseline}` differ in FLOPs a step, from "
                f"{min(costs):.3g} ({settings_in_words(cheapest)}) to {max(costs):.3g} "
                f"({settings_in_words(costliest)}), so its longer schedule could not be of equal FLOPs. Take out of "
                "its grid what changes the cost, or set `longer_baseline: inherit`."
            )


def flop_matched_steps(arm: ArmCost, baseline: ArmCost) -> int:
    """Steps in which the baseline computes as many FLOPs as the arm in its own steps, at least 1.

    Example: 100 steps of 32 rows at 3 FLOPs a row are matched by 150 steps of 32 rows at 2 FLOPs a row.
    """
    return max(1, round(arm.steps * arm.flops_per_step / baseline.flops_per_step))


def spec_of(experiment: Experiment, common: CommonRows, cell: Cell) -> CellSpec:
    """The specification of a cell, which its process reads."""
    evaluation = experiment.evaluation
    settings = cell.settings | ({"excluded_rows": str(common.path)} if common.excluded else {})
    return CellSpec(
        recipe=str(experiment.recipe),
        settings=settings,
        train_rows=common.fingerprint(cell.settings),
        test_rows=common.test_fingerprints[settings.get("dataset_test_split", experiment.test_split())],
        objective_file=_digest_of_objectives(settings),
        every_steps=evaluation.every_steps,
        max_rows=evaluation.max_rows,
        max_new_tokens=evaluation.max_new_tokens,
        eval_batch_size=evaluation.eval_batch_size,
        keep_model=experiment.keep_models,
    )


def _digest_of_objectives(settings: Mapping[str, Any]) -> str | None:
    files = map(own_objective_file, objective_names(settings.get("jepa_objective", "pair")))
    own = [file.read_bytes() for file in files if file is not None]
    return hashlib.sha256(b"".join(own)).hexdigest() if own else None
