"""A progress bar for people who watch: on a terminal, and never where JSON was asked for."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from infra.command_line.verb import Context


def progress_bar(context: Context) -> Progress:
    """A bar of tasks that have a field `done`, with what is told beside the percentage."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[done]}"),
        TimeRemainingColumn(),
        console=console,
        disable=context.json or not console.is_terminal,
        transient=True,
    )


@contextlib.contextmanager
def telling(context: Context) -> Iterator[Callable[[str, int, int], None]]:
    """A bar that is told what is done, the position reached, and the one it goes to."""
    with progress_bar(context) as progress:
        task = progress.add_task("", total=None, done="")

        def told(what: str, reached: int, end: int) -> None:
            progress.update(
                task, description=what, completed=reached, total=end, done=f"at {reached:,}"
            )

        yield told
