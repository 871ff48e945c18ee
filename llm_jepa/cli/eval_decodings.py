"""`llm-jepa eval --decoding`: answers chosen from candidates by embedding, by likelihood and by generating."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from llm_jepa.cli.argument_types import SHORTLIST
from llm_jepa.cli.consoles import new_console
from llm_jepa.cli.progress import bars
from llm_jepa.cli.report_directory import report_directory
from llm_jepa.cli.tables import percent, table_of
from llm_jepa.evaluation.candidate_task import CandidateTask, task_of
from llm_jepa.evaluation.decoding_checks import FROM_DEV, DecodingRequest
from llm_jepa.evaluation.decoding_figures import draw_fallback
from llm_jepa.evaluation.decoding_results import RECALLS, DecodingResult, measure
from llm_jepa.evaluation.decodings import Decoding
from llm_jepa.evaluation.fallback import FallbackPoint, best_margin, fallback_curve, fallback_point, margins_of
from llm_jepa.evaluation.held_out_rows import HeldOutRow, check_not_tested, load_rows
from llm_jepa.evaluation.run_decodings import RunDecodings
from llm_jepa.files.atomic import write_json
from llm_jepa.models.base_and_tuned import load_checkpoints
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.models.subject import read_subject
from llm_jepa.recipe import Recipe

REPORT_FILE, FIGURE_FILE = "decodings.json", "fallback.svg"


def run(args: argparse.Namespace) -> int:
    request: DecodingRequest = args.decoding_request
    recipe, checkpoints = read_subject(args.recipe, args.overrides, None)
    tokenizer = load_run_tokenizer(recipe)
    task = task_of(recipe, load_rows(recipe, tokenizer, args.max_rows), request.labels)
    dev = _dev_task(args, request, recipe, tokenizer, task.rows)
    ((_, location, model),) = load_checkpoints(recipe, checkpoints[-1:], len(tokenizer))
    limits = args.eval_batch_size, args.max_new_tokens, args.shortlist or SHORTLIST
    make = RunDecodings(recipe, model, tokenizer, *limits)
    console = new_console()
    results = _measured([make(name, task) for name in request.decodings])
    console.print(_table(results))
    count = "its own" if task.own is not None else f"{len(task.candidates):,}"
    console.print(f"{len(task.rows):,} rows, each with {count} candidates; ties count as misses", soft_wrap=True)
    console.print(f"{checkpoints[-1]}: {location}", soft_wrap=True, markup=False)
    report: dict[str, Any] = {
        "rows": len(task.rows),
        "candidates": len(task.candidates),
        "split": recipe.script.dataset_test_split,
        "decodings": {name: result.report() for name, result in results.items()},
    }
    directory = report_directory(args.predictions, recipe, checkpoints)
    if request.fallback_margin is not None:
        margin = request.fallback_margin
        if dev is not None:
            on_dev = _measured([make(name, dev) for name in ("latent", "generate")], timed_rows=3)
            margin = best_margin(fallback_curve(*_fallback_inputs(on_dev)))
        assert isinstance(margin, float)
        report["fallback"] = _fallback(results, margin, request, console, directory)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(report, directory / REPORT_FILE)
        console.print(f"figures: {directory / REPORT_FILE}", soft_wrap=True, markup=False)
    return 0


def _dev_task(
    args: argparse.Namespace, request: DecodingRequest, recipe: Recipe, tokenizer: Any, tested: Sequence[HeldOutRow]
) -> CandidateTask | None:
    """The task of the dev split's rows, which the same recipe reads: nothing that was said of it is said again."""
    if request.fallback_margin != FROM_DEV:
        return None
    assert request.dev_split is not None
    split: dict[str, Any] = {"dataset_test_split": request.dev_split}
    recipe = replace(recipe, script=replace(recipe.script, **split), settings=recipe.settings | split)
    rows = load_rows(recipe, tokenizer, args.max_rows)
    check_not_tested(rows, tested, request.dev_split)
    return task_of(recipe, rows, request.labels)


def _measured(decodings: Sequence[Decoding], **options: Any) -> dict[str, DecodingResult]:
    with bars([one.name for one in decodings], len(decodings[0].task.rows)) as advance:
        return {one.name: measure(one, partial(advance, one.name), **options) for one in decodings}


def _fallback_inputs(results: dict[str, DecodingResult]) -> tuple[Any, ...]:
    latent, generate = results["latent"], results["generate"]
    hits = [np.array([rank == 1 for rank in result.ranks]) for result in (latent, generate)]
    seconds = [float(np.mean(result.latency_seconds)) for result in (latent, generate)]
    return margins_of(latent.scores), *hits, *seconds


def _fallback(
    results: dict[str, DecodingResult],
    margin: float,
    request: DecodingRequest,
    console: Console,
    directory: Path | None,
) -> dict[str, Any]:
    inputs = _fallback_inputs(results)
    chosen, curve = fallback_point(margin, *inputs), fallback_curve(*inputs)
    console.print(_fallback_line(chosen), soft_wrap=True)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        alone = {
            name: (float(np.mean(result.latency_seconds)), result.accuracy.fraction)
            for name, result in results.items()
        }
        draw_fallback(curve, chosen, alone, directory / FIGURE_FILE)
        console.print(f"figure: {directory / FIGURE_FILE}", soft_wrap=True, markup=False)
    return {"dev_split": request.dev_split, **chosen.report(), "curve": [point.report() for point in curve]}


def _fallback_line(point: FallbackPoint) -> str:
    is_finite = math.isfinite(point.margin)
    which = f"generated below a margin of {point.margin:.4g}" if is_finite else "generated at every margin"
    return (
        f"latent, {which}: accuracy {percent(point.accuracy)}, "
        f"{percent(point.share_generated)} generated, {1000 * point.seconds:.1f} ms a request"
    )


def _table(results: dict[str, DecodingResult]) -> Table:
    reports = {name: result.report() for name, result in results.items()}
    table = table_of(results)
    table.add_row("accuracy", *(percent(result.accuracy.fraction) for result in results.values()))
    table.add_row("mean reciprocal rank", *(f"{one['mean_reciprocal_rank']:.3f}" for one in reports.values()))
    for k in RECALLS:
        table.add_row(f"recall at {k}", *(percent(one["recall"][str(k)]) for one in reports.values()))
    errors = [one["calibration_error"] for one in reports.values()]
    table.add_row("calibration error", *("-" if error is None else f"{error:.3f}" for error in errors))
    for name in ("p50", "p95"):
        seconds = [one[f"latency_{name}_seconds"] for one in reports.values()]
        table.add_row(f"latency {name}, ms", *(f"{1000 * value:.1f}" for value in seconds))
    table.add_row("requests per second", *(f"{one['requests_per_second']:.1f}" for one in reports.values()))
    table.add_row("peak memory, GiB", *(f"{one['peak_memory_bytes'] / 2**30:.2f}" for one in reports.values()))
    return table
