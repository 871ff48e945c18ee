"""The tables that commands print: names at the left, figures at the right."""

from collections.abc import Iterable
from typing import Any

from rich.table import Table

from llm_jepa.scoring.tasks import Rate

INTERVAL_CAPTION = "in brackets: 95 % interval over rows (Wilson)"


def table_of(columns: Iterable[str], **options: Any) -> Table:
    """A table without rows: a column of names, and one of figures for each heading. Options are those of `Table`."""
    table = Table(title_justify="left", **options)
    table.add_column("")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f} %"


def rate_text(rate: Rate) -> str:
    """A rate in percent with its interval; `-` of no rows."""
    if rate.interval is None:
        return "-"
    low, high = rate.interval
    return f"{percent(rate.fraction)} ({100 * low:.1f} to {100 * high:.1f})"
