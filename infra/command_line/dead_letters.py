"""`plaza dead-letters`: events that could not be applied: look, try again, or give up."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from infra.command_line.numbers import whole
from infra.command_line.tables import print_rows
from infra.command_line.verb import Context, Failure, print_json
from infra.composition.operations import dead_letters
from infra.composition.supervision.running import find_system
from infra.ports.tables import StoreUnavailable
from infra.runtime.projecting.dead_letters import NoSuchLetter, NotSetAside

Call = Callable[[dead_letters.Opened], Awaitable[Any]]


def declare(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(metavar="WHAT", required=True, dest="what")
    kinds.add_parser("list", help="all letters, oldest first").set_defaults(run=run_list)
    for name, about, run in (
        ("show", "one letter, with its event and error", run_show),
        ("retry", "apply a letter and those of its key that wait behind it", run_retry),
        ("discard", "give one event up for good, and apply those that wait behind it", run_discard),
    ):
        kind = kinds.add_parser(name, help=about, description=f"plaza dead-letters {name}: {about}")
        kind.add_argument("id", metavar="ID", type=whole)
        kind.set_defaults(run=run)
        if name == "discard":
            kind.add_argument("--why", required=True, help="the reason, kept with the letter")


def run_list(context: Context) -> int:
    rows = ask(context, lambda opened: opened.list())
    if context.json:
        print_json(rows)
    elif rows:
        print_rows(
            rows,
            {
                "id": "id",
                "projection": "projection",
                "status": "status",
                "position": "position",
                "type": "event",
                "key": "key",
                "attempts": "attempts",
                "error": "error",
            },
        )
    else:
        print("no event is set aside")
    return 0


def run_show(context: Context) -> int:
    letter = ask(context, lambda opened: opened.show(context.arguments.id))
    if context.json:
        print_json(letter)
    else:
        for name, value in letter.items():
            print(f"{name:12} {value}")
    return 0


def run_retry(context: Context) -> int:
    return report(context, ask(context, lambda opened: opened.retry(context.arguments.id)))


def run_discard(context: Context) -> int:
    arguments = context.arguments
    return report(context, ask(context, lambda opened: opened.discard(arguments.id, arguments.why)))


def report(context: Context, outcome: dict[str, Any]) -> int:
    """1 where letters of the key are still aside."""
    if context.json:
        print_json(outcome)
    else:
        print(f"key {outcome['key']}: {outcome['applied']} settled, {outcome['remaining']} aside")
        if outcome["error"]:
            print(outcome["error"])
    return 1 if outcome["remaining"] else 0


def ask(context: Context, call: Call) -> Any:
    async def asked() -> Any:
        settings, _ = find_system(context.settings)
        async with dead_letters.opened(settings) as opened:
            return await call(opened)

    try:
        return asyncio.run(asked())
    except NoSuchLetter:
        raise Failure(f"there is no dead letter {context.arguments.id}") from None
    except NotSetAside as problem:
        raise Failure(str(problem)) from None
    except (StoreUnavailable, psycopg.Error, OSError) as problem:
        raise Failure(f"the database cannot be reached: {problem}") from problem
