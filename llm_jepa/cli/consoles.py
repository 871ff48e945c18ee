"""The consoles that commands print on."""

from typing import Any

from rich.console import Console


def new_console(**options: Any) -> Console:
    """A console that leaves `:x:` in data and paths as it is, and not an emoji. Options are those of `Console`."""
    return Console(emoji=False, **options)
