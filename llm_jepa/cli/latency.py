"""Measure how long a run takes for one request, in every way that it can answer, by turns."""

import argparse

import datasets
import transformers
from rich.console import Console
from rich.table import Table

from llm_jepa.cli import latency_vision
from llm_jepa.cli.argument_types import NEW_TOKENS, SHORTLIST
from llm_jepa.cli.consoles import new_console
from llm_jepa.cli.generate import new_length
from llm_jepa.cli.progress import bars
from llm_jepa.cli.tables import table_of
from llm_jepa.compute.devices import GIB
from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.evaluation.latency import LatencyOptions, RunWays, measure_latency
from llm_jepa.evaluation.latency_report import FIRST_TOKEN, REPORT_FILE, LatencyReport, write_latency
from llm_jepa.models.base_and_tuned import load_checkpoints, set_precision
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.models.subject import read_subject


def run(args: argparse.Namespace) -> int:
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    if args.vision_subject is not None:
        return latency_vision.run(args, *args.vision_subject)
    recipe, checkpoints = read_subject(args.recipe, args.overrides, None)
    set_precision(recipe, args.dtype)
    tokenizer = load_run_tokenizer(recipe)
    rows = load_rows(recipe, tokenizer, args.max_rows)
    ((_, location, model),) = load_checkpoints(recipe, checkpoints[-1:], len(tokenizer))
    options = LatencyOptions(
        max_new_tokens=args.max_new_tokens or NEW_TOKENS,
        labels=args.labels,
        shortlist=args.shortlist or SHORTLIST,
        draft_vocabulary=args.draft_vocabulary,
        draft_lengths={"draft": new_length(args.num_drafted_tokens)},
    )
    ways = RunWays(recipe, model, tokenizer, rows, options)
    with bars(["rows"], len(rows)) as advance:
        report = measure_latency(ways, lambda number: advance("rows", number))
    path = args.output or recipe.output_dir / REPORT_FILE
    write_latency(report, path)
    _show(new_console(highlight=False), report, ways)
    new_console(highlight=False).print(f"{location}\nfigures: {path}", soft_wrap=True, markup=False)
    return 0


def _show(console: Console, report: LatencyReport, ways: RunWays) -> None:
    console.print(_table(report))
    console.print(f"{report.requests:,} requests, one at a time; {report.hardware}, {report.dtype}", soft_wrap=True)
    if ways.task is not None:
        count = "each row's own" if report.candidates is None else f"{report.candidates:,} for every row"
        console.print(f"candidates to choose from: {count}", soft_wrap=True)
    console.print(f"peak memory: {report.peak_memory_bytes / GIB:.2f} GiB", soft_wrap=True)
    for note in ways.notes:
        console.print(note, soft_wrap=True, markup=False)


def _table(report: LatencyReport) -> Table:
    table = table_of(("ms (quartiles)", "x plain", "right", "tokens/s", "/forward"))
    for name, one in report.ways.items():
        low, middle, high = (f"{1000 * value:.0f}" for value in one["seconds_per_answer"])
        answered = [f"{one['times_faster']:.2f}", f"{one['right']}/{one['answers']}"]
        generated = [f"{one['tokens_per_second']:.1f}", f"{one['tokens_per_forward']:.2f}"] if "tokens" in one else []
        table.add_row(name, f"{middle} ({low}-{high})", *([] if name == FIRST_TOKEN else answered), *generated)
    return table
