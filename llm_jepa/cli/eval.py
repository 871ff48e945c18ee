"""Score the base and the tuned model of a recipe, or one model or adapter, on held-out rows."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import datasets
import transformers
from rich.console import Console
from rich.table import Table

from llm_jepa.cli.progress import bars
from llm_jepa.evaluation.run import (
    CheckpointResult,
    evaluate,
    load_rows,
    load_run_tokenizer,
    write_predictions,
    write_scores,
)
from llm_jepa.evaluation.subject import read_subject
from llm_jepa.scoring.tasks import Rate, score_names

HEADINGS = {"stopped": "stop rate", "capped": "cap rate", "equivalent_nontrivial": "nontrivial"}


def run(args: argparse.Namespace) -> int:
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    recipe, checkpoints = read_subject(args.recipe, args.overrides, args.checkpoints)
    tokenizer = load_run_tokenizer(recipe)
    rows = load_rows(recipe, tokenizer, args.max_rows)
    directory = args.predictions
    # Made here, it would stand in the way of training; and a model's own directory is not ours to write to, nor is
    # the cache that keeps what a Hub id names.
    if directory is None and recipe.output_dir.is_dir() and "tuned" in checkpoints and Path(args.recipe).exists():
        directory = recipe.output_dir

    console = Console()
    results = []
    with bars(checkpoints, len(rows)) as advance:
        limits = args.max_new_tokens, args.eval_batch_size
        generation = {"backend": args.backend, "vllm_options": args.vllm_options}
        for result in evaluate(recipe, checkpoints, tokenizer, rows, *limits, advance, directory, **generation):
            results.append(result)
            if directory is not None:
                write_predictions(result.predictions, directory / f"predictions-{result.checkpoint}.jsonl")
                write_scores(result, recipe, args.max_new_tokens, args.backend, directory)
    console.print(_table(results, score_names(recipe.training.task)))
    for result in results:
        console.print(f"{result.checkpoint}: {result.location}", soft_wrap=True)
    if directory is not None:
        console.print(f"predictions and scores: {directory}", soft_wrap=True)
    return 0


def _table(results: Sequence[CheckpointResult], names: Sequence[str]) -> Table:
    """A column for each model, so that it fits a terminal of 80 characters however many scores the task has."""
    table = Table(caption="± standard error in percentage points")
    table.add_column("")
    for result in results:
        table.add_column(result.checkpoint, justify="right", no_wrap=True)
    for name in names:
        shown = [_percent(result.scores[name]) for result in results]
        if name == "strict":
            errors = [100 * result.scores[name].standard_error for result in results]
            shown = [f"{share} ± {error:.1f}" for share, error in zip(shown, errors, strict=True)]
        table.add_row(HEADINGS.get(name, name), *shown)
    table.add_row("rows", *(str(result.scores["strict"].count) for result in results))
    return table


def _percent(rate: Rate) -> str:
    return f"{100 * rate.fraction:.1f} %" if rate.count else "-"
