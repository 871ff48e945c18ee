"""Runs the cells of an experiment and compares its arms at equal steps and at equal FLOPs."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llm_jepa.experiments.arm_cost import ArmCost, count_arm
from llm_jepa.experiments.cell import RESULT_FILE, SPEC_FILE, CellSpec, write_json
from llm_jepa.experiments.significance import Verdict, summarise, verdicts
from llm_jepa.experiments.spec import Cell, Experiment, Settings, as_overrides, cells_of, search_cells
from llm_jepa.scoring.tasks import LOWER_IS_BETTER, score_names

logger = logging.getLogger(__name__)

LOG_FILE = "log.txt"
Budget = Literal["equal_steps", "equal_flops"]
"""What is equal in the comparison of an arm with the baseline."""
Results = dict[int, dict[str, Any]]


@dataclass(frozen=True)
class ExperimentDesign:
    """The cells to run, and the baseline of each arm in each comparison.

    Attributes:
        costs: Arm -> cost of its training.
        chosen: Arm -> settings chosen by the search.
        cells: Series (an arm, or the baseline on a longer schedule) -> seed -> cell.
        baselines: Budget -> arm -> the series that it is compared with.
    """

    costs: dict[str, ArmCost]
    chosen: dict[str, Settings]
    cells: dict[str, dict[int, Cell]]
    baselines: dict[Budget, dict[str, str]]


class CellError(RuntimeError):
    """A cell failed. The message names its log."""


def design_experiment(experiment: Experiment, chosen: Mapping[str, Settings]) -> ExperimentDesign:
    """Count the FLOPs of the arms and list the cells.

    At equal FLOPs, an arm that computes r times as much as the baseline meets a baseline with r times the steps.
    """
    costs = {arm: count_arm(experiment.parse(settings | chosen[arm])) for arm, settings in experiment.arms.items()}
    cells = {arm: cells_of(experiment, arm, chosen[arm]) for arm in experiment.arms}
    baseline = experiment.baseline
    baselines: dict[Budget, dict[str, str]] = {"equal_steps": dict.fromkeys(experiment.compared_arms, baseline)}
    if experiment.equal_flops:
        baselines["equal_flops"] = {}
        for arm in experiment.compared_arms:
            steps = flop_matched_steps(costs[arm], costs[baseline])
            longer = baseline
            if steps != costs[baseline].steps:
                series = cells_of(experiment, baseline, chosen[baseline], steps)
                longer = next(iter(series.values())).arm
                cells[longer] = series
            baselines["equal_flops"][arm] = longer
    return ExperimentDesign(costs, dict(chosen), cells, baselines)


def flop_matched_steps(arm: ArmCost, baseline: ArmCost) -> int:
    """Steps in which the baseline computes as many FLOPs as the arm in its own steps."""
    return round(arm.steps * arm.flops_per_row / baseline.flops_per_row)


def chosen_points(experiment: Experiment) -> dict[str, Settings]:
    """Arm -> the grid point with the best primary score on the search split; the first of equal points.

    Every arm, including the baseline, tries every point once, with the first seed.

    Raises:
        CellError: A cell of the search has no result.
    """
    if experiment.search is None:
        return {arm: {} for arm in experiment.arms}
    points = experiment.search.points()
    sign = -1 if experiment.primary_score in LOWER_IS_BETTER else 1
    best: dict[str, tuple[float, int]] = {}
    for arm, number, cell in search_cells(experiment):
        result = read_result(experiment, cell)
        if result is None:
            raise CellError(f"The search is not finished: {cell.directory} has no result. Nothing was compared.")
        best[arm] = max(
            best.get(arm, (float("-inf"), 0)), (sign * result["scores"][experiment.primary_score], -number)
        )
    return {arm: points[-number] for arm, (_, number) in best.items()}


def run_cells(
    experiment: Experiment, cells: Iterable[Cell], num_jobs: int, progress: Callable[[Cell], None]
) -> list[str]:
    """Run the cells without a result, `num_jobs` processes at a time; returns the errors of failed cells.

    After a failure the other cells still run. An interruption of this process ends all of them.
    """
    failures = []
    running: set[subprocess.Popen] = set()
    lock = threading.Lock()

    def run(cell: Cell) -> None:
        if read_result(experiment, cell) is None:
            _run_process(experiment, cell, num_jobs, running, lock)

    with ThreadPoolExecutor(num_jobs) as pool:
        futures = {pool.submit(run, cell): cell for cell in cells}
        try:
            for future in as_completed(futures):
                error = future.exception()
                if isinstance(error, CellError):
                    failures.append(str(error))
                elif error is not None:
                    raise error
                progress(futures[future])
        finally:  # after an error or Ctrl-C, end the cells that wait or run
            pool.shutdown(wait=False, cancel_futures=True)
            for process in tuple(running):
                process.terminate()
    return failures


def read_result(experiment: Experiment, cell: Cell) -> dict[str, Any] | None:
    """The result of a cell; None if it is not finished.

    Raises:
        ValueError: The cell was run with other settings.
    """
    path = cell.directory / RESULT_FILE
    if not path.is_file():
        return None
    _check_spec(experiment, cell)
    return json.loads(path.read_text(encoding="utf-8"))


def compare(experiment: Experiment, design: ExperimentDesign) -> dict[str, Any]:
    """The report of an experiment as JSON: costs, summaries, verdicts, and the cells that are missing."""
    task = experiment.parse(experiment.arms[experiment.baseline]).training.task
    results = {
        series: {seed: result for seed, cell in cells.items() if (result := read_result(experiment, cell)) is not None}
        for series, cells in design.cells.items()
    }
    names = [
        name for name in score_names(task) if any(name in r["scores"] for s in results.values() for r in s.values())
    ]
    return {
        "experiment": _described(experiment),
        "arms": {
            arm: {"settings": settings | design.chosen[arm], "cost": asdict(design.costs[arm])}
            for arm, settings in experiment.arms.items()
        },
        "series": {series: _series(found, names) for series, found in results.items()},
        "comparisons": {
            budget: {name: _verdicts(experiment, design, budget, name, results) for name in names}
            for budget in design.baselines
        },
        "missing": [
            [series, seed] for series, cells in design.cells.items() for seed in cells if seed not in results[series]
        ],
    }


def _run_process(
    experiment: Experiment, cell: Cell, num_jobs: int, running: set[subprocess.Popen], lock: threading.Lock
) -> None:
    cell.directory.mkdir(parents=True, exist_ok=True)
    _check_spec(experiment, cell)
    write_json(asdict(_spec_of(experiment, cell)), cell.directory / SPEC_FILE)
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // num_jobs))}
    with (cell.directory / LOG_FILE).open("a", encoding="utf-8") as log:
        command = [sys.executable, "-m", "llm_jepa.experiments.cell", str(cell.directory)]
        with lock:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            running.add(process)
        status = process.wait()
        with lock:
            running.discard(process)
    if status != 0 or read_result(experiment, cell) is None:
        raise CellError(
            f"Cell {cell.arm}, seed {cell.seed}, failed (status {status}); see {cell.directory / LOG_FILE}."
        )


def _spec_of(experiment: Experiment, cell: Cell) -> CellSpec:
    settings = {**experiment.settings, **cell.settings, "seed": cell.seed}
    if cell.test_split is not None:
        settings["dataset_test_split"] = cell.test_split
    evaluation = asdict(experiment.evaluation)
    return CellSpec(str(experiment.recipe), as_overrides(settings), **evaluation, keep_model=experiment.keep_models)


def _check_spec(experiment: Experiment, cell: Cell) -> None:
    path = cell.directory / SPEC_FILE
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != asdict(_spec_of(experiment, cell)):
        raise ValueError(
            f"{cell.directory} was run with other settings than {experiment.path} has now. Give the experiment "
            "another `output_dir`, or remove the directory."
        )


def _described(experiment: Experiment) -> dict[str, Any]:
    return {
        "name": experiment.path.stem,
        "recipe": experiment.recipe.name,
        "settings": experiment.settings,
        "baseline": experiment.baseline,
        "seeds": experiment.seeds,
        "primary_score": experiment.primary_score,
        "evaluation": asdict(experiment.evaluation),
        "search": None if experiment.search is None else asdict(experiment.search),
    }


def _series(found: Results, names: list[str]) -> dict[str, Any]:
    """Scores and training cost of a series over its finished seeds."""
    seconds = [result["training"]["seconds"] for result in found.values()]
    return {
        "scores": {
            name: {
                "by_seed": {seed: result["scores"][name] for seed, result in found.items()},
                **asdict(summarise({seed: result["scores"][name] for seed, result in found.items()})),
            }
            for name in names
            if found
        },
        "steps": next((result["training"]["steps"] for result in found.values()), None),
        "seconds_mean": sum(seconds) / len(seconds) if seconds else None,
        "last_log": {seed: result["training"]["last_log"] for seed, result in found.items()},
    }


def _verdicts(
    experiment: Experiment, design: ExperimentDesign, budget: Budget, name: str, results: dict[str, Results]
) -> dict[str, Any]:
    """Arm -> its verdict by one score, with the figures behind it."""
    scores = {
        series: {seed: result["scores"][name] for seed, result in found.items()} for series, found in results.items()
    }
    rows = {
        series: {seed: [float(v) for v in result["rows"][name] if v is not None] for seed, result in found.items()}
        for series, found in results.items()
    }
    by_arm = verdicts(
        scores,
        arms=experiment.compared_arms,
        baseline=design.baselines[budget],
        seeds=experiment.seeds,
        rows=rows,
        higher_is_better=name not in LOWER_IS_BETTER,
    )
    return {arm: _as_json(verdict) for arm, verdict in by_arm.items()}


def _as_json(verdict: Verdict) -> dict[str, Any]:
    difference = verdict.difference
    detectable = None if difference is None else difference.minimal_detectable_difference
    return asdict(verdict) | {"sentence": verdict.sentence, "minimal_detectable_difference": detectable}
