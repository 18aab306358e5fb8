"""`plaza top`: what the system does at this moment, on a screen that keeps itself current."""

import argparse
import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from infra.command_line.numbers import whole
from infra.command_line.verb import AskedWrongly, Context, print_json
from infra.composition.operations.top import overview
from infra.composition.operations.watching import Look, Watcher, watching
from infra.composition.settings import Settings
from infra.composition.supervision.running import find_system

EVERY_SECONDS = 2
WINDOW_LOOKS = 30
"""Percentiles are of what came during so many looks."""

PICTURE_COLUMNS = 118
LATE_SECONDS, VERY_LATE_SECONDS = 1.0, 10.0
SLOW_SECONDS, VERY_SLOW_SECONDS = 0.2, 0.5
HALVES = (range(8), range(8, 16))
PROCESSES_IN_A_ROW = 3
TALL = 48
"""Lines of a screen that has room for everybody."""


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="print it once, and end")
    parser.add_argument(
        "--every",
        type=whole,
        default=EVERY_SECONDS,
        metavar="SECONDS",
        help=f"look so often (default: {EVERY_SECONDS})",
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the screen as a picture")
    parser.set_defaults(run=run)


def run(context: Context) -> int:
    arguments = context.arguments
    if not arguments.every:
        raise AskedWrongly("--every must be 1 or more")
    settings, _ = find_system(context.settings)
    if context.json or arguments.once or arguments.svg:
        found = uvloop.run(looked_twice(settings, arguments.every))
        if arguments.svg:
            picture(found, arguments.svg)
        if context.json:
            print_json(found)
        elif not arguments.svg:
            Console().print(screen(found))
        return 0
    uvloop.run(keep_showing(settings, arguments.every))
    return 0


async def looked_twice(settings: Settings, seconds: float) -> dict[str, Any]:
    async with watching(settings) as watcher:
        before = await watcher.look()
        await asyncio.sleep(seconds)
        return overview(await watcher.look(), before)


async def keep_showing(settings: Settings, seconds: float) -> None:
    """Until interrupted. The first look's percentiles are since the processes started."""
    async with watching(settings) as watcher:
        looks: deque[Look] = deque([await watcher.look()], maxlen=WINDOW_LOOKS)
        with Live(Text("looking …"), screen=True, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(seconds)
                await show(live, watcher, looks)


async def show(live: Live, watcher: Watcher, looks: deque[Look]) -> None:
    now = await watcher.look()
    first = looks[0] if len(looks) > 1 else None
    found = overview(now, looks[-1], first)
    live.update(screen(found, live.console.height), refresh=True)
    looks.append(now)


def picture(found: Mapping[str, Any], file: Path) -> None:
    """The screen as SVG."""
    console = Console(record=True, width=PICTURE_COLUMNS, file=StringIO())
    console.print(screen(found))
    console.save_svg(str(file), title="plaza top")


# The screen.


def screen(found: Mapping[str, Any], height: int = TALL) -> RenderableType:
    """On a low screen, those who are not behind share one line."""
    rows = found["followers"]
    return Group(
        head(found),
        Panel(
            followers(rows if height >= TALL else shortened(rows)),
            title="seconds behind the log, by partition",
            title_align="left",
        ),
        Panel(pages(found["pages"]), title="slowest pages", title_align="left"),
        Panel(commerce(found), title="checkouts", title_align="left"),
        Panel(processes(found["processes"]), title="processes", title_align="left"),
    )


def head(found: Mapping[str, Any]) -> Table:
    rates = found["rates"]
    grid = Table.grid(expand=True, padding=(0, 2))
    titles = {
        "events": "events/s",
        "commands": "commands/s",
        "queries": "queries/s",
        "feedPages": "feeds/s",
        "deliveries": "pushes/s",
        "refusals": "refused/s",
    }
    for _ in range(len(titles) + 2):
        grid.add_column(justify="right", no_wrap=True)
    fresh = found["freshness"]["p99"]
    grid.add_row(*(Text(title, style="dim") for title in ("log at", *titles.values(), "fresh p99")))
    grid.add_row(
        Text(number(found["logPosition"]), style="bold"),
        *(Text(number(rates[name]), style="bold") for name in titles),
        timed(fresh, LATE_SECONDS, VERY_LATE_SECONDS),
    )
    return grid


def shortened(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    behind = [
        row for row in rows if row["lagSeconds"] or row["parked"] or row.get("filled", 1.0) < 1.0
    ]
    others = len(rows) - len(behind)
    nothing = {
        "kind": "",
        "name": f"{others} others",
        "partitions": dict.fromkeys(map(str, HALVES[0]), 0.0),
        "waiting": 0,
        "waitingIsExact": True,
        "parked": 0,
    }
    return [*behind, nothing] if others else behind


def followers(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One row a projection or process, one column a partition of its half."""
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("", no_wrap=True)
    for place in HALVES[0]:
        table.add_column(f"{place}·{place + len(HALVES[0])}", justify="right", no_wrap=True)
    table.add_column("events", justify="right", no_wrap=True)
    table.add_column("parked", justify="right", no_wrap=True)
    for row in rows:
        lags = {int(partition): lag for partition, lag in row["partitions"].items()}
        half = HALVES[1] if lags and min(lags) in HALVES[1] else HALVES[0]
        name = Text(row["name"], style="italic" if row["kind"] == "process" else "")
        if row.get("filled", 1.0) < 1.0:
            name.append(f" {row['filled']:.0%}", style="yellow")
        waiting = number(row["waiting"]) if row["waitingIsExact"] else f"≤{number(row['waiting'])}"
        table.add_row(
            name,
            *(timed(lags.get(partition), LATE_SECONDS, VERY_LATE_SECONDS) for partition in half),
            waiting,
            alarming(row["parked"]),
        )
    return table


def pages(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("", no_wrap=True, ratio=1)
    for name in ("requests", "p50", "p95", "p99"):
        table.add_column(name, justify="right", no_wrap=True, min_width=9)
    for row in rows:
        table.add_row(
            row["route"],
            number(row["requests"]),
            *(timed(row[name], SLOW_SECONDS, VERY_SLOW_SECONDS) for name in ("p50", "p95", "p99")),
        )
    return table


def commerce(found: Mapping[str, Any]) -> Text:
    checkouts = found["checkouts"]
    told = [Text(f"{count:,} open, {status}") for status, count in checkouts["open"].items()]
    told = told or [Text("none open", style="dim")]
    if checkouts["oldestSeconds"]:
        told.append(Text("oldest ").append(timed(checkouts["oldestSeconds"], 600.0, 1800.0)))
    told += [Text(f"{count:,} {outcome}") for outcome, count in sorted(checkouts["ended"].items())]
    told.append(Text("problems ").append(alarming(checkouts["problems"])))
    told.append(Text("dead letters ").append(alarming(sum(found["deadLetters"].values()))))
    return Text("  ·  ").join(told)


def processes(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table.grid(expand=True, padding=(0, 2))
    for _ in range(PROCESSES_IN_A_ROW):
        table.add_column(no_wrap=True)
    cells = [process(row) for row in rows]
    for start in range(0, len(cells), PROCESSES_IN_A_ROW):
        part = cells[start : start + PROCESSES_IN_A_ROW]
        table.add_row(*part, *([""] * (PROCESSES_IN_A_ROW - len(part))))
    return table


def process(row: Mapping[str, Any]) -> Text:
    text = Text("● ", style="green" if row["up"] else "bold red")
    text.append(row["name"], style="default")
    if row["memoryBytes"] is not None:
        cpu = "" if row["cpu"] is None else f" {row['cpu']:.0%}"
        text.append(f"{cpu} {row['memoryBytes'] / 1024 / 1024:,.0f} MB", style="dim")
    if (row["starts"] or 0) > 1:
        text.append(f" started {row['starts']} times", style="yellow")
    return text


def timed(seconds: float | None, late: float, very_late: float) -> Text:
    """A time, in the colour of how bad it is."""
    if seconds is None:
        return Text("–", style="dim")  # noqa: RUF001
    style = "bold red" if seconds >= very_late else "yellow" if seconds >= late else ""
    if not seconds:
        return Text("0", style="dim")
    shown = f"{seconds * 1000:,.3g} ms" if seconds < 1 else f"{seconds:,.1f} s"
    return Text(shown, style=style)


def alarming(count: int | None) -> Text:
    return Text(number(count), style="bold red" if count else "dim")


def number(value: float | None) -> str:
    if value is None:
        return "–"  # noqa: RUF001
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
