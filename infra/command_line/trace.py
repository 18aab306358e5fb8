"""`plaza trace`: what became of one request, step by step, with times."""

import argparse
from collections.abc import Mapping
from typing import Any

import uvloop
from rich.text import Text
from rich.tree import Tree

from infra.command_line.log_reading import told_in_words
from infra.command_line.numbers import whole
from infra.command_line.tables import plain_console
from infra.command_line.verb import Context, print_json
from infra.composition.operations.tracing_path import WITHIN, NoSuchTrace, path_of
from infra.composition.supervision.running import find_system

STEPS = {
    "tables": "read tables written",
    "home_timelines": "in the feeds of all followers",
    "pages": "visible on pages",
    "search_posts": "in the search of posts",
    "search_members": "in the search of members",
    "search_products": "in the search of products",
}


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "id", metavar="ID", help="a request's id, its trace id or traceparent, or a log position"
    )
    parser.add_argument(
        "--within",
        type=whole,
        default=WITHIN,
        metavar="N",
        help=f"look among so many of the newest positions (default: {WITHIN:,})",
    )
    parser.set_defaults(run=run)


def run(context: Context) -> int:
    arguments = context.arguments
    settings, _ = find_system(context.settings)
    with told_in_words(NoSuchTrace):
        found = uvloop.run(path_of(settings, arguments.id, arguments.within))
    if context.json:
        print_json(found)
    else:
        show(found)
    return 0


def show(found: Mapping[str, Any]) -> None:
    console = plain_console()
    root = Tree(f"request {found['traceId']}")
    branches: dict[int, Tree] = {}
    for event in found["events"]:
        above = branches.get(event["causedBy"] or 0, root)
        branch = branches[event["position"]] = above.add(heading(event))
        for step in event["steps"]:
            branch.add(line(step))
        known = {step["what"] for step in event["steps"]}
        late = [one["projection"] for one in event["appliedBy"] if not one["applied"]]
        if late:
            branch.add(Text(f"not yet in {', '.join(late)}", style="bold red"))
        if not known:
            branch.add(Text(f"{untimed(event)}; nobody remembers when", style="dim"))
    console.print(root)
    if found["silent"]:
        console.print(f"did not answer: {', '.join(found['silent'])}", style="yellow")


def heading(event: Mapping[str, Any]) -> Text:
    text = Text(f"{event['position']}  {event['type']}", style="bold")
    return text.append(f"  {event['stream']}  decided {event['decidedAt']}", style="not bold")


def line(step: Mapping[str, Any]) -> Text:
    known, bound = step["after"], step["atMost"]
    time = f"+{known:.3f} s" if known is not None else f"within {bound:.3f} s"
    return Text(f"{time:>12}  {STEPS.get(step['what'], step['what'])}")


def untimed(event: Mapping[str, Any]) -> str:
    applied = [one["projection"] for one in event["appliedBy"] if one["applied"]]
    return f"applied by {', '.join(applied)}" if applied else "not applied"
