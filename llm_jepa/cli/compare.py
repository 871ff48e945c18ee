"""Run an experiment, arms x seeds, and say whether JEPA helped."""

import argparse

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from llm_jepa.experiments.cell import write_json
from llm_jepa.experiments.comparison import (
    CellError,
    ExperimentDesign,
    chosen_points,
    compare,
    design_experiment,
    run_cells,
)
from llm_jepa.experiments.report import render_html, render_markdown
from llm_jepa.experiments.spec import Experiment, read_experiment, search_cells

REPORT = "report"


def run(args: argparse.Namespace) -> int:
    if args.jobs < 1:
        raise ValueError(f"`--jobs` is {args.jobs}; it must be at least 1.")
    experiment = read_experiment(args.experiment)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        if not args.report_only:
            _search(experiment, args.jobs, bar)
        design = design_experiment(experiment, chosen_points(experiment))
        failures = [] if args.report_only else _run(experiment, design, args.jobs, bar)
    _write(experiment, design)
    if failures:
        raise CellError(" ".join(failures))
    return 0


def _search(experiment: Experiment, num_jobs: int, bar: Progress) -> None:
    if experiment.search is None:
        return
    cells = [cell for _, _, cell in search_cells(experiment)]
    task = bar.add_task("search", total=len(cells))
    failures = run_cells(experiment, cells, num_jobs, lambda cell: bar.advance(task))
    if failures:
        raise CellError(f"The search is not finished, so nothing was compared. {' '.join(failures)}")


def _run(experiment: Experiment, design: ExperimentDesign, num_jobs: int, bar: Progress) -> list[str]:
    cells = [cell for series in design.cells.values() for cell in series.values()]
    cells.sort(key=lambda cell: experiment.seeds.index(cell.seed))  # all arms of one seed first
    task = bar.add_task("cells", total=len(cells))
    return run_cells(experiment, cells, num_jobs, lambda cell: bar.advance(task))


def _write(experiment: Experiment, design: ExperimentDesign) -> None:
    report = compare(experiment, design)
    directory = experiment.output_dir
    directory.mkdir(parents=True, exist_ok=True)
    write_json(report, directory / f"{REPORT}.json")
    markdown = render_markdown(report)
    (directory / f"{REPORT}.md").write_text(markdown, encoding="utf-8")
    (directory / f"{REPORT}.html").write_text(render_html(report), encoding="utf-8")
    console = Console(soft_wrap=True, highlight=False)
    for budget, by_score in report["comparisons"].items():
        console.print(f"[bold]{budget.replace('_', ' ')}[/], by {experiment.primary_score}:")
        for verdict in by_score.get(experiment.primary_score, {}).values():
            console.print(f"  {verdict['sentence']}", markup=False)
    console.print(f"report: {directory / REPORT}.md, .json, .html", markup=False)
