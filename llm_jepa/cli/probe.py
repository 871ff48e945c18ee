"""Look at the embeddings of both views, before and after training."""

import argparse

import datasets
import transformers
from rich.table import Table

from llm_jepa.cli.consoles import new_console
from llm_jepa.cli.progress import bars
from llm_jepa.cli.report_directory import report_directory
from llm_jepa.cli.tables import table_of
from llm_jepa.evaluation.embedding_figures import draw_maps
from llm_jepa.evaluation.probe import describe, embed_checkpoints, held_out_view_ids
from llm_jepa.files.atomic import write_json
from llm_jepa.models.checkpoint_choice import Checkpoint
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.models.subject import read_subject


def run(args: argparse.Namespace) -> int:
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    recipe, checkpoints = read_subject(args.recipe, args.overrides, args.checkpoints)
    tokenizer = load_run_tokenizer(recipe)
    sequences = held_out_view_ids(recipe, tokenizer, args.max_rows)
    with bars(checkpoints, 2 * len(sequences[0])) as advance:
        found = list(embed_checkpoints(recipe, checkpoints, sequences, args.eval_batch_size, tokenizer, advance))
    figures = {one.checkpoint: describe(one.source_ND, one.target_ND, one.target_key_N) for one in found}
    console = new_console(soft_wrap=True)
    console.print(_table(figures, len(sequences[0])))
    directory = report_directory(args.report, recipe, checkpoints)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(figures, directory / "probe.json")
        draw_maps(found, directory / "probe.svg")
        console.print(f"figures: {directory / 'probe.json'}, {directory / 'probe.svg'}", markup=False)
    return 0


def _table(figures: dict[Checkpoint, dict], num_rows: int) -> Table:
    table = table_of(figures, caption=f"{num_rows} held-out rows")
    for name in next(iter(figures.values())):
        if name != "singular_values_of_difference":
            table.add_row(name, *(f"{one[name]:.4g}" for one in figures.values()))
    first = [
        ", ".join(f"{value:.3g}" for value in one["singular_values_of_difference"][:3]) for one in figures.values()
    ]
    table.add_row("singular values of source - target", *first)
    return table
