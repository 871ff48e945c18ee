"""`llm-jepa eval --decoding draft`: drafted beside plain decoding, in the same run."""

import argparse
from functools import partial

from rich.table import Table

from llm_jepa.cli.consoles import new_console
from llm_jepa.cli.generate import new_length
from llm_jepa.cli.progress import bars
from llm_jepa.cli.report_directory import report_directory
from llm_jepa.cli.tables import table_of
from llm_jepa.data.prompts import prompt_ids
from llm_jepa.evaluation.generation_latency import BASELINE, GenerationLatency, measure_generation
from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.files.atomic import write_json
from llm_jepa.inference.packed_linear import packed_copy
from llm_jepa.inference.text_generation import TextGenerator
from llm_jepa.models.base_and_tuned import load_checkpoints
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.models.subject import read_subject

REPORT_FILE = "generation.json"


def run(args: argparse.Namespace) -> int:
    recipe, checkpoints = read_subject(args.recipe, args.overrides, None)
    tokenizer = load_run_tokenizer(recipe)
    rows = load_rows(recipe, tokenizer, args.max_rows)
    ((_, location, model),) = load_checkpoints(recipe, checkpoints[-1:], len(tokenizer))
    models = {"draft": packed_copy(model)} if "draft" in args.decoding else {}
    limits = args.max_new_tokens, args.draft_vocabulary, new_length(args.num_drafted_tokens)
    generators = {
        method: TextGenerator.of_run(recipe.output_dir, models.get(method, model), tokenizer, method, *limits)
        for method in dict.fromkeys([BASELINE, *args.decoding])
    }
    prompts = [prompt_ids(tokenizer, row.prompt, row.template_kwargs) for row in rows]
    console = new_console()
    with bars(["rows"], len(rows)) as advance:
        results = measure_generation(generators, prompts, progress=partial(advance, "rows"))
    console.print(_table(results))
    console.print(f"{len(rows):,} rows, one at a time; {checkpoints[-1]}: {location}", soft_wrap=True, markup=False)
    directory = report_directory(args.predictions, recipe, checkpoints)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        write_json({name: result.report() for name, result in results.items()}, directory / REPORT_FILE)
        console.print(f"figures: {directory / REPORT_FILE}", soft_wrap=True, markup=False)
    return 0


def _table(results: dict[str, GenerationLatency]) -> Table:
    reports = {name: result.report() for name, result in results.items()}
    table = table_of(results)
    table.add_row("median seconds per answer", *(f"{one['seconds_per_answer'][1]:.3f}" for one in reports.values()))
    table.add_row("times faster than plain", *(f"{one['times_faster']:.2f}" for one in reports.values()))
    table.add_row("tokens per second", *(f"{one['tokens_per_second']:.1f}" for one in reports.values()))
    table.add_row("tokens per forward", *(f"{one['tokens_per_forward']:.2f}" for one in reports.values()))
    table.add_row("same text as plain", *(f"{one['same_text']} of {one['answers']}" for one in reports.values()))
    most = max(len(one["acceptance"]) for one in reports.values())
    for position in range(most):
        shares = [one["acceptance"][position : position + 1] for one in reports.values()]
        table.add_row(f"accepted at position {position + 1}", *(f"{100 * s[0]:.0f} %" if s else "-" for s in shares))
    return table
