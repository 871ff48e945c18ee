"""Shows what a data set holds, and how to map it."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm_jepa.cli.arguments import HUB_ROWS
from llm_jepa.data.source import DataSource
from llm_jepa.inspection.data_profile import DataProfile, FieldProfile, profile_data
from llm_jepa.settings.reading import read_overrides

DATA_KEYS = ("dataset_config", "dataset_train_split")


def show_data(console: Console, args: argparse.Namespace) -> None:
    settings = read_overrides(args.overrides)
    idle = [key for key in settings if key not in DATA_KEYS]
    if idle:
        raise ValueError(f"`{'`, `'.join(idle)}` has no effect on data alone; only {' and '.join(DATA_KEYS)} have.")
    is_local = Path(args.recipe).expanduser().exists()
    max_rows = args.max_rows if args.max_rows is not None or is_local else HUB_ROWS
    source = DataSource(dataset_name=args.recipe, **settings)
    with _no_torch_in_streams():
        profile = profile_data(source, max_rows, args.rows)
    if profile.is_refused:
        console.print(f"[bold]training would refuse every row[/]: row 0: {escape(profile.refusals[0][1])}")
    _show_fields(console, profile)
    _show_rows_found(console, profile)
    _show_proposal(console, profile, {"dataset_name": args.recipe, **settings})


@contextmanager
def _no_torch_in_streams() -> Iterator[None]:
    """Else `datasets` imports torch, which takes seconds, to share a stream's epoch with a DataLoader's workers."""
    was_available = datasets.config.TORCH_AVAILABLE
    datasets.config.TORCH_AVAILABLE = False
    try:
        yield
    finally:
        datasets.config.TORCH_AVAILABLE = was_available


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
            console.print(f"duplicate {what}: {about}{counter.num_duplicates}")
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
