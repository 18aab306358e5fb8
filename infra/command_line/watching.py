"""Shows how far long work has got: a bar with rate and time left, or lines where nobody looks.

Where JSON was asked for, nothing is shown.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from infra.command_line.verb import Context
from infra.ports import keepers

LINE_SECONDS = 5.0


@contextlib.contextmanager
def watching(context: Context, name: str) -> Iterator[keepers.Progress]:
    """What to tell progress to, for as long as this is open."""
    console = Console(stderr=True)
    if context.json:
        yield lambda _what, _reached, _end: None
    elif console.is_terminal:
        with bars(console) as progress:
            yield Bars(progress, name)
    else:
        yield Lines(name, lambda line: print(line, file=sys.stderr, flush=True))


def bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


class Pace:
    """How fast something gets on, from where it was first seen."""

    def __init__(self, clock: Callable[[], float], reached: int) -> None:
        self._clock = clock
        self._begun_at, self._begun = clock(), reached

    def rate(self, reached: int) -> float:
        return (reached - self._begun) / max(self._clock() - self._begun_at, 1e-3)


class Bars:
    """A bar a step of the work."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._name = name
        self._tasks: dict[str, tuple[TaskID, Pace]] = {}

    def __call__(self, what: str, reached: int, end: int) -> None:
        if what not in self._tasks:
            task = self._progress.add_task(f"{what} {self._name}", total=end, rate="")
            self._tasks[what] = task, Pace(time.monotonic, reached)
        task, pace = self._tasks[what]
        shown = f"{reached:,} of {end:,}  {pace.rate(reached):,.0f}/s"
        self._progress.update(task, completed=reached, total=end, rate=shown)


class Lines:
    """A line when a step begins, every few seconds, and when it is done."""

    def __init__(
        self, name: str, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._tell = tell
        self._clock = clock
        self._paces: dict[str, Pace] = {}
        self._told_at: dict[str, float] = {}

    def __call__(self, what: str, reached: int, end: int) -> None:
        pace = self._paces.setdefault(what, Pace(self._clock, reached))
        now = self._clock()
        if reached < end and now < self._told_at.get(what, now - LINE_SECONDS) + LINE_SECONDS:
            return
        self._told_at[what] = now
        share = 100 * reached // end if end else 100
        line = f"{what} {self._name}: {reached:,} of {end:,} ({share} %)"
        rate = pace.rate(reached)
        if rate > 0:
            line += f", {rate:,.0f}/s, {max(end - reached, 0) / rate:,.0f} s left"
        self._tell(line)
