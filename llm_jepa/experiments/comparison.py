"""Compares the arms of an experiment at equal steps and at equal FLOPs, from the results of its cells."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llm_jepa.experiments.assembling import assemble_report
from llm_jepa.experiments.cell_spec import DIVERGED, CellSpec
from llm_jepa.experiments.cells import (
    Budget,
    Cell,
    Series,
    is_searched,
    longer_baselines,
    search_cells,
    series_cells,
    spec_of,
)
from llm_jepa.experiments.claims import contrasts_of
from llm_jepa.experiments.common_rows import CommonRows
from llm_jepa.experiments.declared import count_finished, declared_with, items_of, keep_declared
from llm_jepa.experiments.interface import ArmCost
from llm_jepa.experiments.running import CellError, read_result
from llm_jepa.experiments.score_choice import possible_scores
from llm_jepa.experiments.spec import Experiment, Settings, settings_in_words
from llm_jepa.experiments.spec_checks import SEARCH_SEED
from llm_jepa.scoring.tasks import LOWER_IS_BETTER

Results = dict[int, dict[str, Any]]


@dataclass(frozen=True)
class ExperimentDesign:
    """The cells to run, and the baseline of each arm in each comparison.

    Attributes:
        common: The rows that all arms train on.
        costs: Arm -> cost of its training with its chosen settings.
        chosen: Series -> settings chosen by the search.
        searched: Series -> each point of its grid, `settings`, with its `score`, None where the loss was not finite.
        cells: Series -> seed -> cell.
        baselines: Budget -> arm -> the series that it is compared with.
        specs: Directory of a cell -> its specification.
        cells_before: The cells that were finished when the run started; None where nothing runs.
    """

    common: CommonRows
    costs: dict[str, ArmCost]
    chosen: dict[str, Settings]
    searched: dict[str, list[dict[str, Any]]]
    cells: dict[str, dict[int, Cell]]
    baselines: dict[Budget, dict[str, list[str]]]
    specs: dict[Any, CellSpec]
    cells_before: int | None


def design_experiment(
    experiment: Experiment,
    common: CommonRows,
    costs: Mapping[str, ArmCost],
    chosen: Mapping[str, Settings],
    cells_before: int | None,
) -> ExperimentDesign:
    """List the cells of both comparisons, with the settings that the search has chosen for each series."""
    longer = longer_baselines(experiment, costs)
    series = [*(Series(arm) for arm in experiment.arms), *itertools.chain.from_iterable(longer.values())]
    cells = {one.name: series_cells(experiment, one, chosen[one.name]) for one in dict.fromkeys(series)}
    searched = {
        one.name: searched_points(experiment, common, one)
        for one in dict.fromkeys(series)
        if is_searched(experiment, one)
    }
    baselines: dict[Budget, dict[str, list[str]]] = {"equal_steps": experiment.baselines()}
    if longer:
        baselines["equal_flops"] = {arm: [one.name for one in of_arm] for arm, of_arm in longer.items()}
    specs = specs_of(experiment, common, [cell for by_seed in cells.values() for cell in by_seed.values()])
    return ExperimentDesign(common, dict(costs), dict(chosen), searched, cells, baselines, specs, cells_before)


def specs_of(experiment: Experiment, common: CommonRows, cells: Sequence[Cell]) -> dict[Any, CellSpec]:
    """Directory -> specification of each cell."""
    return {cell.directory: spec_of(experiment, common, cell) for cell in cells}


def arm_costs(experiment: Experiment, common: CommonRows, chosen: Mapping[str, Settings]) -> dict[str, ArmCost]:
    """Arm -> what its training costs with its chosen settings."""
    return {arm: common.cost(experiment.resolved(arm, chosen[arm])) for arm in experiment.arms}


def chosen_point(experiment: Experiment, common: CommonRows, series: Series) -> Settings:
    """The point of a series' grid with the best primary score on the dev split; the first of equal points.

    A point that diverged loses.

    Raises:
        CellError: A cell of the search has no result, or every point diverged.
    """
    if experiment.search is None:
        return {}
    if not is_searched(experiment, series):
        return chosen_point(experiment, common, Series(series.arm))
    sign = -1 if experiment.primary_score in LOWER_IS_BETTER else 1
    points = searched_points(experiment, common, series)
    scores = [-math.inf if one["score"] is None else sign * one["score"] for one in points]
    if max(scores) == -math.inf:
        tried = "; ".join(settings_in_words(one["settings"]) for one in points)
        raise CellError(f"Every point of {series.name} diverged: {tried}. Nothing was compared. Search lower rates.")
    chosen: Settings = points[scores.index(max(scores))]["settings"]
    return chosen


def searched_points(experiment: Experiment, common: CommonRows, series: Series) -> list[dict[str, Any]]:
    """Each point of a series' grid, `settings`, with its primary `score`; None where the loss was not finite.

    Raises:
        CellError: A cell of the search has no result.
    """
    assert experiment.search is not None
    found = []
    for point, cell in zip(experiment.search.points(series.arm), search_cells(experiment, series), strict=True):
        result = read_result(cell, spec_of(experiment, common, cell))
        if result is None:
            raise CellError(f"The search is not finished: {cell.directory} has no result. Nothing was compared.")
        score = None if DIVERGED in result else result["scores"][experiment.primary_score]
        found.append({"settings": point, "score": score})
    return found


def compare(experiment: Experiment, design: ExperimentDesign) -> dict[str, Any]:
    """The report of an experiment as JSON: protocol, costs, summaries, verdicts, and the cells that are missing.

    Where cells run, what is declared is kept in the output directory.
    """
    results, refused = _results(design)
    described = design_json(experiment, design) | {"refused": refused}
    items = items_of(described["experiment"], list(experiment.arms), contrasts_of(design.baselines))
    trained = {arm: _trained(design, arm) for arm in experiment.arms}
    if design.cells_before is None:
        declared = declared_with(experiment.output_dir, items, trained, count_finished(experiment.output_dir))
    else:
        declared = keep_declared(experiment.output_dir, items, trained, design.cells_before)
    return assemble_report(described | {"declared": declared}, results)


def _trained(design: ExperimentDesign, arm: str) -> dict[str, Any]:
    """What decides the trained models of an arm, without the seed."""
    cell = next(iter(design.cells[arm].values()))
    return {key: value for key, value in design.specs[cell.directory].training().items() if key != "seed"}


def design_json(experiment: Experiment, design: ExperimentDesign) -> dict[str, Any]:
    """What a report knows beside the results of the cells."""
    settings = experiment.resolved(experiment.baseline)
    return {
        "experiment": _described(experiment, design.common, design.searched),
        "arms": {
            arm: {
                "settings": experiment.arms[arm] | design.chosen[arm],
                "cost": asdict(design.costs[arm]),
                "dropped_rows": design.common.dropped[arm],
            }
            for arm in experiment.arms
        },
        "chosen": {name: settings for name, settings in design.chosen.items() if settings},
        "baselines": design.baselines,
        "series_names": list(design.cells),
        "score_names": possible_scores(settings),
    }


def _results(design: ExperimentDesign) -> tuple[dict[str, Results], list[str]]:
    """Series -> seed -> result of each cell with scores, and why others that were trained have none."""
    results: dict[str, Results] = {series: {} for series in design.cells}
    refused = []
    for series, cells in design.cells.items():
        for seed, cell in cells.items():
            try:
                result = read_result(cell, design.specs[cell.directory])
            except CellError as error:
                refused.append(str(error))
                continue
            if result is not None and DIVERGED in result:
                refused.append(_diverged(series, seed, cell, result))
            elif result is not None:
                results[series][seed] = result
    return results, refused


def _diverged(series: str, seed: int, cell: Cell, result: Mapping[str, Any]) -> str:
    return (
        f"{series} diverged with seed {seed}, so that it has no verdict: {result[DIVERGED]} Lower its learning rate, "
        f"under another name; or remove {cell.directory} to run the cell anew."
    )


def _described(experiment: Experiment, common: CommonRows, searched: Mapping[str, Any]) -> dict[str, Any]:
    search = experiment.search
    return {
        "name": experiment.path.stem,
        "kind": experiment.kind,
        "recipe": experiment.recipe.name,
        "settings": experiment.settings,
        "baseline": experiment.baseline,
        "seeds": experiment.seeds,
        "primary_score": experiment.primary_score,
        "threshold": experiment.threshold,
        "equal_flops": experiment.equal_flops,
        "evaluation": asdict(experiment.evaluation),
        "search": None if search is None else asdict(search) | {"seed": SEARCH_SEED, "points": searched},
        "rows": common.num_rows,
        "excluded_rows": len(common.excluded),
        "overlap": [one.sentence for one in common.shared],
    }
