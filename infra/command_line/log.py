"""`plaza log`: read the event log."""

import argparse
import asyncio
import contextlib

from infra.command_line.log_history import declare_history
from infra.command_line.log_reading import told_in_words
from infra.command_line.numbers import whole
from infra.command_line.processes import names
from infra.command_line.verb import AskedWrongly, Context, print_json
from infra.composition.operations.log_reading import tail
from infra.composition.supervision.running import find_system
from infra.formats.codec import EVENT_CLASSES


def declare(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(metavar="WHAT", required=True, dest="what")
    about = "events as JSON lines, in order"
    kind = kinds.add_parser("tail", help=about, description=f"plaza log tail: {about}.")
    kind.add_argument("--after", type=whole, default=0, metavar="P", help="after this position")
    kind.add_argument("--types", type=names, default=(), metavar="A,B", help="of these types only")
    kind.add_argument("--stream", metavar="S", help="of this stream only")
    kind.add_argument("--limit", type=whole, metavar="N", help="at most so many (default: all)")
    kind.add_argument("--follow", action="store_true", help="wait for more, until interrupted")
    kind.set_defaults(run=run)
    declare_history(kinds)


def run(context: Context) -> int:
    if unknown := set(context.arguments.types) - EVENT_CLASSES.keys():
        raise AskedWrongly(f"there is no event type {', '.join(sorted(unknown))}")
    with told_in_words(), contextlib.suppress(KeyboardInterrupt):
        asyncio.run(print_events(context))
    return 0


async def print_events(context: Context) -> None:
    settings, _ = find_system(context.settings)
    arguments = context.arguments
    remaining = arguments.limit
    if remaining == 0:
        return
    events = tail(
        settings,
        after=arguments.after,
        types=arguments.types,
        stream=arguments.stream,
        follow=arguments.follow,
    )
    async with contextlib.aclosing(events):
        async for event in events:
            print_json(event)
            if remaining is not None:
                remaining -= 1
                if remaining == 0:
                    return
