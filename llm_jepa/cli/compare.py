"""Run an experiment, arms x seeds, and say whether JEPA helped."""

import argparse
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from llm_jepa.cli.consoles import new_console
from llm_jepa.entry import cleaned_up_at_sigterm
from llm_jepa.experiments.cells import Cell, Series, check_longer_searches, is_searched, longer_baselines, search_cells
from llm_jepa.experiments.common_rows import CommonRows, check_rows, find_common_rows
from llm_jepa.experiments.comparison import (
    ExperimentDesign,
    arm_costs,
    chosen_point,
    compare,
    design_experiment,
    specs_of,
)
from llm_jepa.experiments.declared import count_finished
from llm_jepa.experiments.rendering import render_html, render_markdown
from llm_jepa.experiments.report import budget_title, threshold_verdicts
from llm_jepa.experiments.running import CellError, run_cells, usable_jobs
from llm_jepa.experiments.significance import MIN_SEEDS
from llm_jepa.experiments.spec import Experiment, Settings
from llm_jepa.files.atomic import write_json

logger = logging.getLogger(__name__)

REPORT = "report"


def run(args: argparse.Namespace) -> int:
    experiment: Experiment = args.experiment
    num_jobs = 0 if args.report_only else usable_jobs(args.jobs)
    if num_jobs:
        check_rows(experiment)
    cells_before = count_finished(experiment.output_dir) if num_jobs else None
    console = new_console(stderr=True, soft_wrap=True, highlight=False)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        reading = bar.add_task("reading the rows of every arm", total=None)
        common = find_common_rows(experiment)
        check_longer_searches(experiment, common)
        bar.remove_task(reading)
        _say(console, experiment, common)
        if num_jobs:
            common.write()
        design = _design(experiment, common, num_jobs, bar, cells_before)
        cells = [cell for series in design.cells.values() for cell in series.values()]
        cells.sort(key=lambda cell: experiment.seeds.index(cell.seed))  # all arms of one seed first
        failures = _run(experiment, common, cells, num_jobs, bar, "cells", lambda: _report_so_far(experiment, design))
    _say_verdicts(experiment, _write_reports(experiment, design))
    if failures:
        raise CellError(" ".join(failures))
    return 0


def _design(
    experiment: Experiment, common: CommonRows, num_jobs: int, bar: Progress, cells_before: int | None
) -> ExperimentDesign:
    """Search what is to be searched, and list the cells of the comparisons."""
    chosen = _search(experiment, common, [Series(arm) for arm in experiment.arms], num_jobs, bar)
    costs = arm_costs(experiment, common, chosen)
    found = itertools.chain.from_iterable(longer_baselines(experiment, costs).values())
    longer = [one for one in found if one.max_steps is not None]
    chosen |= _search(experiment, common, list(dict.fromkeys(longer)), num_jobs, bar)
    return design_experiment(experiment, common, costs, chosen, cells_before)


def _search(
    experiment: Experiment, common: CommonRows, series: Sequence[Series], num_jobs: int, bar: Progress
) -> dict[str, Settings]:
    """Series -> the settings that its search has chosen."""
    cells = [cell for one in series if is_searched(experiment, one) for cell in search_cells(experiment, one)]
    failures = _run(experiment, common, cells, num_jobs, bar, "search")
    if failures:
        raise CellError(f"The search is not finished, so nothing was compared. {' '.join(failures)}")
    return {one.name: chosen_point(experiment, common, one) for one in series}


def _run(
    experiment: Experiment,
    common: CommonRows,
    cells: Sequence[Cell],
    num_jobs: int,
    bar: Progress,
    name: str,
    after_cell: Callable[[], object] = lambda: None,
) -> list[str]:
    if num_jobs == 0 or not cells:
        return []
    task = bar.add_task(name, total=len(cells))
    after_cell()  # there is a report from the start
    specs = specs_of(experiment, common, cells)

    def progress(cell: Cell) -> None:
        bar.advance(task)
        after_cell()

    with cleaned_up_at_sigterm():
        return run_cells(cells, specs, num_jobs, progress)


def _say(console: Console, experiment: Experiment, common: CommonRows) -> None:
    """Say what will run, before it runs."""
    arms, seeds = len(experiment.arms), len(experiment.seeds)
    points = sum(len(experiment.variants(arm)) for arm in experiment.arms) if experiment.search else 0
    searched = f" after a search of {points} points" if points else ""
    console.print(
        f"{arms} arms x {seeds} seeds{searched}, below {experiment.output_dir}: each cell has its log in log.txt, and "
        "finished cells are kept.",
        markup=False,
    )
    if common.excluded:
        console.print(
            f"{len(common.excluded)} of {common.num_rows} rows are dropped for every arm: some arm's sequences exceed "
            "`max_length` there.",
            markup=False,
        )
    for shared in common.shared:
        console.print(f"Overlap: {shared.sentence}", markup=False)
    if seeds < MIN_SEEDS:
        console.print(
            f"There will be no verdict: `seeds` has {seeds} of the {MIN_SEEDS} that one needs.", markup=False
        )


def _write_reports(experiment: Experiment, design: ExperimentDesign) -> dict[str, Any]:
    """Write the report of the finished cells as JSON, Markdown and HTML; returns it."""
    report = compare(experiment, design)
    directory = experiment.output_dir
    directory.mkdir(parents=True, exist_ok=True)
    write_json(report, directory / f"{REPORT}.json")
    markdown = render_markdown(report)
    (directory / f"{REPORT}.md").write_text(markdown, encoding="utf-8")
    (directory / f"{REPORT}.html").write_text(render_html(report), encoding="utf-8")
    return report


def _report_so_far(experiment: Experiment, design: ExperimentDesign) -> None:
    """Write the reports; a file that cannot be written now must not end the cells that run."""
    try:
        _write_reports(experiment, design)
    except OSError as error:
        logger.warning("The report of the cells so far was not written: %s", error)


def _say_verdicts(experiment: Experiment, report: Mapping[str, Any]) -> None:
    console = new_console(soft_wrap=True, highlight=False)
    for budget, by_score in report["comparisons"].items():
        console.print(f"[bold]{budget_title(report, budget)}[/], by {experiment.primary_score}:")
        for verdict in by_score.get(experiment.primary_score, {}).values():
            console.print(f"  {verdict['sentence']}", markup=False)
    if report["by_threshold"]:
        console.print(f"[bold]reaching {experiment.threshold:.0%} {experiment.primary_score}[/]:")
        for verdict in threshold_verdicts(report):
            console.print(
                f"  {budget_title(report, verdict['budget'])}, {verdict['measure']}: {verdict['sentence']}",
                markup=False,
            )
    for sentence in report["changes"]:
        console.print(sentence, markup=False)
    for reason in report["refused"]:
        console.print(f"without scores: {reason}", markup=False)
    console.print(f"report: {experiment.output_dir / REPORT}.md, .json, .html", markup=False)
