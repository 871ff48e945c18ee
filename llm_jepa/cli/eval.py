"""Score the base and the tuned model of a recipe, one model or adapter, or a run of VL-JEPA, on held-out rows."""

import argparse
from collections.abc import Sequence
from typing import Any

import datasets
import transformers
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from llm_jepa.cli import eval_decodings, eval_generation, eval_vision
from llm_jepa.cli.consoles import new_console
from llm_jepa.cli.progress import bars
from llm_jepa.cli.report_directory import report_directory
from llm_jepa.cli.tables import INTERVAL_CAPTION, rate_text, table_of
from llm_jepa.evaluation.held_out_rows import HeldOutRow, load_rows, prompts_digest
from llm_jepa.evaluation.prediction_log import discard_log
from llm_jepa.evaluation.results import (
    CheckpointResult,
    scored_data,
    warn_of_replaced_scores,
    write_predictions,
    write_scores,
)
from llm_jepa.evaluation.rows_trained_on import count_rows_trained_on
from llm_jepa.evaluation.run import evaluate
from llm_jepa.models.base_and_tuned import precision_name
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.models.subject import read_subject
from llm_jepa.recipe import Recipe
from llm_jepa.scoring.tasks import TASK_SCORES, score_names

HEADINGS = {"stopped": "stop rate", "capped": "cap rate", "equivalent_nontrivial": "nontrivial"}


def run(args: argparse.Namespace) -> int:
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    if args.vision_subject is not None:
        return eval_vision.run(args, *args.vision_subject)
    if args.decoding_request is not None:
        return eval_decodings.run(args)
    if args.decoding is not None:
        return eval_generation.run(args)
    recipe, checkpoints = read_subject(args.recipe, args.overrides, args.checkpoints)
    tokenizer = load_run_tokenizer(recipe)
    rows = load_rows(recipe, tokenizer, args.max_rows)
    num_trained_on = count_rows_trained_on(recipe, rows) if "tuned" in checkpoints else None
    scored = _scored(recipe, tokenizer, rows)
    directory = report_directory(args.predictions, recipe, checkpoints)
    if directory is not None:
        warn_of_replaced_scores(checkpoints, directory, scored)

    console = new_console()
    results = []
    with bars(checkpoints, len(rows)) as advance:
        limits = args.max_new_tokens, args.eval_batch_size
        generation = {"backend": args.backend, "vllm_options": args.vllm_options}
        for result in evaluate(recipe, checkpoints, tokenizer, rows, *limits, advance, directory, **generation):
            results.append(result)
            if directory is not None:
                write_predictions(result.predictions, directory / f"predictions-{result.checkpoint}.jsonl")
                seen = num_trained_on if result.checkpoint == "tuned" else None
                write_scores(result, recipe, scored, args.max_new_tokens, args.backend, directory, seen)
                discard_log(directory, result.checkpoint)
    console.print(_table(results, score_names(recipe.training.task, recipe.training.extract)))
    for result in results:
        console.print(f"{result.checkpoint}: {result.location}", soft_wrap=True, markup=False)
        for reason, count in result.left_out.items():
            names = ", ".join(TASK_SCORES[recipe.training.task])
            counted = f"{reason} ({count} of {len(result.rows)} rows)"
            console.print(f"{result.checkpoint}: left out of {names}: {counted}", soft_wrap=True, markup=False)
    if directory is not None:
        console.print(f"predictions and scores: {directory}", soft_wrap=True, markup=False)
    return 0


def _scored(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, rows: Sequence[HeldOutRow]) -> dict[str, Any]:
    """What a scores file says of data, prompts and precision."""
    prompts = {"prompts_digest": prompts_digest(tokenizer, rows), "precision": precision_name(recipe)}
    return scored_data(recipe.source, len(rows)) | prompts


def _table(results: Sequence[CheckpointResult], names: Sequence[str]) -> Table:
    """A column for each model, so that it fits a terminal of 80 characters however many scores the task has."""
    table = table_of((result.checkpoint for result in results), caption=INTERVAL_CAPTION)
    for name in names:
        table.add_row(HEADINGS.get(name, name), *(rate_text(result.scores[name]) for result in results))
    table.add_row("rows", *(str(len(result.rows)) for result in results))
    if any(result.left_out for result in results):
        table.add_row("left out", *(str(sum(result.left_out.values())) for result in results))
    return table
