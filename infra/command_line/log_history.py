"""`plaza log show` and `plaza log stats`: an event with its causes and effects, and all in sums."""

import argparse
from typing import Any

import uvloop
from rich.tree import Tree

from infra.command_line.log_reading import told_in_words
from infra.command_line.numbers import whole
from infra.command_line.progress import progress_bar
from infra.command_line.tables import plain_console, print_rows
from infra.command_line.verb import Context, print_json
from infra.composition.operations.log_history import (
    WITHIN,
    Node,
    NoSuchEvent,
    Story,
    statistics,
    story,
)
from infra.composition.supervision.running import find_system

VALUE_LETTERS_MAX = 60


def declare_history(kinds: Any) -> None:
    """Add both to the verbs of `plaza log`."""
    about = "one event with its causes, its effects, and the documents that it changed"
    show: argparse.ArgumentParser = kinds.add_parser("show", help=about, description=about)
    show.add_argument("position", metavar="P", type=whole)
    show.add_argument(
        "--within",
        type=whole,
        default=WITHIN,
        metavar="N",
        help=f"look for effects among so many positions behind it (default: {WITHIN:,})",
    )
    show.set_defaults(run=run_show)
    about = "events and bytes by type and by day, and how the log grows"
    kinds.add_parser("stats", help=about, description=about).set_defaults(run=run_stats)


def run_show(context: Context) -> int:
    arguments = context.arguments
    settings, _ = find_system(context.settings)
    with told_in_words(NoSuchEvent):
        found = uvloop.run(story(settings, arguments.position, arguments.within))
    if context.json:
        print_json(found.described())
    else:
        show(found)
    return 0


def show(found: Story) -> None:
    console = plain_console()
    for name in ("position", "stream", "version", "type", "recordedAt", "correlationId"):
        console.print(f"{name:14} {found.event.get(name)}", markup=False)
    for name, value in (found.event["data"] or {}).items():
        console.print(f"  {name:12} {shortened(value)}", markup=False)
    request = found.event.get("correlationId") or "unknown"
    root = Tree(f"request {request}")
    for node in found.roots:
        grow(root, node, found.event["position"])
    console.print(root)
    if found.changes:
        rows = [
            {**change, "row": ", ".join(f"{k} {v}" for k, v in change["row"].items())}
            for change in found.changes
        ]
        print_rows(rows, {"projection": "changed in", "table": "table", "change": "by", "row": ""})
    for checkout in found.checkouts:
        console.print(
            f"checkout {checkout['checkoutId']}: {checkout['status']}"
            f" (plaza checkouts show {checkout['checkoutId']})"
        )
    searched = found.searched
    if not searched["complete"]:
        console.print(
            f"looked for effects up to position {searched['last']:,} of {searched['head']:,};"
            " --within looks further"
        )


def grow(tree: Tree, node: Node, chosen: int) -> None:
    event = node.event
    label = f"{event['position']}  {event['type']}  {event['stream']}  {event.get('recordedAt')}"
    style = "bold reverse" if event["position"] == chosen else ""
    branch = tree.add(label, style=style, guide_style="dim")
    for effect in node.effects:
        grow(branch, effect, chosen)


def shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= VALUE_LETTERS_MAX else text[: VALUE_LETTERS_MAX - 1] + "…"


def run_stats(context: Context) -> int:
    settings, _ = find_system(context.settings)
    with progress_bar(context) as progress:
        task = progress.add_task("reading the log", total=None, done="")

        def told(reached: int, head: int) -> None:
            progress.update(task, completed=reached, total=head, done=f"at {reached:,}")

        with told_in_words():
            found = uvloop.run(statistics(settings, told))
    if context.json:
        print_json(found)
        return 0
    print(
        f"{found['events']:,} events, {found['bytes']:,} bytes; on the disk, with indexes,"
        f" {found['diskBytes']:,}\n"
    )
    print_rows(
        found["types"],
        {"type": "type", "events": "events", "bytes": "bytes", "bytesPerEvent": "bytes an event"},
    )
    print()
    print_rows(
        [{**day, "growth": percent(day["growth"])} for day in found["days"]],
        {
            "day": "day",
            "events": "events",
            "bytes": "bytes",
            "growth": "growth",
            "eventsSoFar": "events so far",
            "bytesSoFar": "bytes so far",
        },
    )
    return 0


def percent(growth: float | None) -> str | None:
    return None if growth is None else f"{growth:+.0%}"
