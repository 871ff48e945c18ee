"""Show rows as the model will see them, before any training; or what a data set holds, and how to map it."""

import argparse
import statistics
from pathlib import Path

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor
from trl import ScriptArguments

from llm_jepa.cli.arguments import HUB_ROWS
from llm_jepa.inspection.data_profile import DataProfile, FieldProfile, profile_data
from llm_jepa.inspection.recipe_rows import InspectedRow, Inspection, inspect_recipe
from llm_jepa.recipe import parse_recipe
from llm_jepa.settings.checks import REQUIRED
from llm_jepa.settings.reading import read_overrides

RECIPE_SUFFIXES = (".yaml", ".yml")
REQUIRED_TO_LOOK = tuple(key for key in REQUIRED if key != "output_dir")
"""Of a recipe; nothing is written."""
DATA_KEYS = ("dataset_config", "dataset_train_split")
MASK_CELLS = 96
SHOWN_DROPPED = 10


def run(args: argparse.Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True)
    if Path(args.recipe).suffix not in RECIPE_SUFFIXES:
        _inspect_data(console, args)
        return 0
    if args.max_rows is not None:
        raise ValueError("`--max_rows` has no effect on a recipe, only on data.")
    inspection = inspect_recipe(parse_recipe([args.recipe, *args.overrides], REQUIRED_TO_LOOK), args.rows)
    for row in inspection.rows:
        _show_row(console, row)
    _show_summary(console, inspection)
    return 0


def _inspect_data(console: Console, args: argparse.Namespace) -> None:
    settings = read_overrides(args.overrides)
    idle = [key for key in settings if key not in DATA_KEYS]
    if idle:
        raise ValueError(f"`{'`, `'.join(idle)}` has no effect on data alone; only {' and '.join(DATA_KEYS)} have.")
    is_local = Path(args.recipe).expanduser().exists()
    max_rows = args.max_rows if args.max_rows is not None or is_local else HUB_ROWS
    script = ScriptArguments(dataset_name=args.recipe, **settings)
    profile = profile_data(script, max_rows, args.rows)
    if profile.is_refused:
        console.print(f"[bold]training would refuse every row[/]: row 0: {escape(profile.refusals[0][1])}")
    _show_fields(console, profile)
    _show_rows_found(console, profile)
    _show_proposal(console, profile, {"dataset_name": args.recipe, **settings})


def _show_fields(console: Console, profile: DataProfile) -> None:
    table = Table(title="fields", title_justify="left")
    for heading in ("field", "type", "missing", "characters (mean, max)", "values"):
        table.add_column(heading, justify="right" if heading in ("missing", "characters (mean, max)") else "left")
    for path, found in profile.fields.items():
        missing = profile.num_rows - sum(found.types.values())
        kinds = ", ".join(name for name, _ in found.types.most_common()) or "null"
        table.add_row(escape(path), kinds, str(missing), _characters(found), escape("\n".join(found.examples)))
    console.print(table)


def _characters(found: FieldProfile) -> str:
    return f"{found.total_characters / found.num_texts:.0f}, {found.max_characters}" if found.num_texts else ""


def _show_rows_found(console: Console, profile: DataProfile) -> None:
    console.print(f"rows: {profile.num_rows}{' (those asked for; there may be more)' if profile.is_partial else ''}")
    for what, counter in (("rows", profile.duplicate_rows), ("pairs of views", profile.duplicate_pairs)):
        if what == "rows" or profile.proposal.has_views:
            about = "about " if counter.is_estimate else ""
            console.print(f"{what} that were there before: {about}{counter.num_duplicates}")
    if profile.proposal.has_views:
        console.print(f"rows that training would refuse: {profile.num_refused}")
    for index, reason in profile.refusals:
        console.print(f"  row {index}: {escape(reason)}")
    if profile.num_refused > len(profile.refusals):
        console.print(f"  and {profile.num_refused - len(profile.refusals)} more")
    if profile.num_refused and not profile.is_refused and "source_column" in profile.proposal.settings:
        console.print(
            "(counted from 0; the first of them stops training; in place of both columns, "
            "`view_columns: [SOURCE, TARGET]` with `missing_views: skip` leaves them out)"
        )


def _show_proposal(console: Console, profile: DataProfile, data: dict[str, str]) -> None:
    proposal = profile.proposal
    if profile.is_refused:
        console.print(f"\n[bold]no proposal[/]: every row is refused, though {escape(proposal.reason)}")
        return
    doubt = "not certain" if proposal.settings else "not known"
    console.print(f"\n[bold]{'for a recipe' if proposal.is_certain else doubt}[/]: {escape(proposal.reason)}")
    for path in proposal.candidates:
        console.print(f"  candidate: {escape(path)}")
    lines = yaml.safe_dump(data | proposal.settings, sort_keys=False, allow_unicode=True, width=10_000)
    console.print(escape(lines.rstrip()))


def _show_row(console: Console, row: InspectedRow) -> None:
    learnt = sum(row.learnt)
    console.rule(f"row {row.index}", align="left")
    console.print(f"[bold]conversation[/] {len(row.pieces)} tokens, {learnt} of them labels, marked «thus»")
    console.print(_marked(row.pieces, row.learnt))
    for view in row.views:
        if view.role == "content":
            console.print(f"[bold]{view.name} content[/] {len(view.pieces)} tokens, on which a path is drawn")
        else:
            last = len(view.pieces) - 1
            console.print(
                f"[bold]{view.name} view[/] {last + 1} tokens, {view.role}, read at token {last}: "
                f"{escape(repr(view.pieces[-1]))}"
            )
        console.print(escape("".join(view.pieces)), style="cyan")
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


def _marked(pieces: list[str], learnt: list[bool]) -> str:
    """The text with every run of labels between guillemets."""
    text, inside = "", False
    for piece, is_label in zip(pieces, learnt, strict=True):
        if is_label != inside:
            text += "[green]«" if is_label else "»[/]"
            inside = is_label
        text += escape(piece)
    return text + ("»[/]" if inside else "")


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
    table = Table(title="tokens a row", title_justify="left")
    for heading in ("", "mean", "median", "max"):
        table.add_column(heading, justify="left" if not heading else "right")
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
