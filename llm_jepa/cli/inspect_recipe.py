"""Shows a recipe's rows as the model will see them."""

import argparse
import itertools
import statistics

from rich.console import Console
from rich.markup import escape
from rich.text import Text
from torch import Tensor

from llm_jepa.cli.tables import table_of
from llm_jepa.inspection.recipe_rows import InspectedRow, Inspection, inspect_recipe
from llm_jepa.recipe import Recipe

MASK_CELLS = 96
SHOWN_DROPPED = 10


def show_recipe(console: Console, args: argparse.Namespace, recipe: Recipe) -> None:
    inspection = inspect_recipe(recipe, args.rows)
    for row in inspection.rows:
        _show_row(console, row)
    _show_summary(console, inspection)


def _show_row(console: Console, row: InspectedRow) -> None:
    learnt = sum(row.learnt)
    console.rule(f"row {row.index}", align="left")
    console.print(f"[bold]conversation[/] {len(row.pieces)} tokens, {learnt} of them labels, marked «thus»")
    console.print(marked(row.pieces, row.learnt))
    for view in row.views:
        if view.role == "content":
            console.print(f"[bold]{view.name} content[/] {len(view.pieces)} tokens, on which a path is drawn")
        elif view.role == "ends":
            console.print(f"[bold]{len(view.pieces)} steps[/] of the target, which end at {escape(repr(view.pieces))}")
            continue
        else:
            last = len(view.pieces) - 1
            owner = "" if view.partner is None else f" of row {view.partner} (`shuffle_pairs`),"
            reading = "" if view.role == "is coded" else f", read at token {last}: {escape(repr(view.pieces[-1]))}"
            console.print(f"[bold]{view.name} view[/]{owner} {last + 1} tokens, {view.role}{reading}")
        console.print(Text("".join(view.pieces), style="cyan"))
    if row.stored_tokens == len(row.stored):
        console.print(f"[bold]mask[/] of the {len(row.stored)} tokens in one row: █ where a token (down) may attend")
        if row.detached_tokens == 0 and len(row.views) == 2:
            console.print("(in training the views may have a second row, where that computes less)", style="dim")
        console.print(draw_mask(row.mask_LL, MASK_CELLS))
    else:
        console.print(
            f"[bold]rows[/] {row.stored_tokens} tokens, each sequence in a row of its own under a causal mask"
        )
    if row.detached_tokens:
        console.print(f"and {row.detached_tokens} tokens of the predicted view in a forward without gradient")
    console.print()


def marked(pieces: list[str], learnt: list[bool]) -> Text:
    """The text with every run of labels in green between guillemets."""
    text = Text()
    for is_label, run in itertools.groupby(zip(pieces, learnt, strict=True), key=lambda token: token[1]):
        shown = "".join(piece for piece, _ in run)
        text.append(f"«{shown}»" if is_label else shown, style="green" if is_label else "")
    return text


def draw_mask(mask_LL: Tensor, max_cells: int) -> str:
    """A mask as text, two rows of tokens a line; long ones are thinned out evenly."""
    stride = -(-len(mask_LL) // max_cells)
    cells = mask_LL[::stride, ::stride].tolist()
    if len(cells) % 2:
        cells.append([False] * len(cells[0]))
    glyphs = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}
    lines = [
        "".join(glyphs[pair] for pair in zip(top, bottom, strict=True)).rstrip()
        for top, bottom in zip(cells[::2], cells[1::2], strict=True)
    ]
    return "\n".join(lines + ([f"(every {stride}th token)"] if stride > 1 else []))


def _show_summary(console: Console, inspection: Inspection) -> None:
    table = table_of(("mean", "median", "max"), title="tokens a row")
    for name, counts in inspection.counts.items():
        if counts:
            mean, median = statistics.fmean(counts), statistics.median(counts)
            table.add_row(name, f"{mean:.1f}", f"{median:g}", str(max(counts)))
    console.print(table)
    forward, no_grad, conversation = (
        sum(inspection.counts[name]) for name in ("forward", "no-grad forward", "conversation")
    )
    if conversation:
        console.print(
            f"tokens over plain SFT: {forward / conversation:.2f} with gradient, {no_grad / conversation:.2f} without"
            + (f" (in the {1 - inspection.dropout:.0%} of steps that keep the term)" if inspection.dropout else "")
        )
    console.print(f"layout: {escape(inspection.layout)}")
    total = f"{inspection.num_rows}{' (the stream has more)' if inspection.is_partial else ''}"
    console.print(
        f"rows: {total}, dropped: {len(inspection.dropped)} (longer than max_length {inspection.max_length})"
    )
    for index, tokens in inspection.dropped[:SHOWN_DROPPED]:
        console.print(f"  row {index}: {tokens} tokens")
    if len(inspection.dropped) > SHOWN_DROPPED:
        console.print(f"  and {len(inspection.dropped) - SHOWN_DROPPED} more")
