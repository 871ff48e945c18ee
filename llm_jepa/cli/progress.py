"""Progress on standard error."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from llm_jepa.cli.consoles import new_console


@contextmanager
def bars(names: Sequence[str], total: int | None) -> Iterator[Callable[[str, int], None]]:
    """A bar for each name, gone at the end; gives what advances the bar of a name by a number.

    Without a total a bar counts alone.
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=new_console(stderr=True), transient=True) as progress:
        tasks = {name: progress.add_task(name, total=total) for name in names}
        yield lambda name, number: progress.advance(tasks[name], number)


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """Says which stage is under way: in one line that changes on a terminal, else in a line each."""
    console = new_console(stderr=True, highlight=False)
    with console.status("") as status:
        yield status.update if console.is_terminal else lambda stage: console.print(stage, markup=False)
