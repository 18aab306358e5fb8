"""`plaza command-api`, `query-api`, `relay`, `worker`: one process of the system, until SIGTERM."""

import argparse
import asyncio
import importlib
import signal
from collections.abc import Coroutine
from typing import Any

import structlog
import uvloop

from infra.command_line.verb import FAILED, AskedWrongly, Context
from infra.composition.logging import configure_logging
from infra.composition.services.tasks import NotKnown, halves
from infra.composition.supervision.running import find_system

MAINS = {
    "command-api": "infra.composition.services.command_api",
    "query-api": "infra.composition.services.query_api",
    "relay": "infra.composition.services.relay",
    "worker": "infra.composition.services.projection_worker",
}


Names = tuple[str, ...]


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    if parser.prog.endswith(" worker"):
        parser.add_argument(
            "--projections", metavar="A,B", type=names, help="only these projections"
        )
        parser.add_argument("--processes", metavar="A,B", type=names, help="only these processes")


def run(context: Context) -> int:
    settings, _ = find_system(context.settings)
    name = context.arguments.verb
    configure_logging(name, settings.log_level)
    main = importlib.import_module(MAINS[name])
    serving = main.serve(settings, *tasks_of(context)) if name == "worker" else main.serve(settings)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(until_told_to_stop(serving))
    except Exception:
        # Whoever started us starts us again; what happened is a line of the log like all others.
        structlog.get_logger(__name__).exception("process.failed")
        return FAILED
    return 0


def tasks_of(context: Context) -> tuple[Names | None, Names | None]:
    """The projections and processes that a worker is for: all, or none but those that are named."""
    projections, processes = context.arguments.projections, context.arguments.processes
    if projections is None and processes is None:
        return None, None
    named = (projections or (), processes or ())
    try:
        halves(*named)
    except NotKnown as problem:
        raise AskedWrongly(f"there is no {problem}") from problem
    return named


async def until_told_to_stop(serving: Coroutine[Any, Any, None]) -> None:
    """Run until it ends, or cancel it on SIGTERM or SIGINT and let it clean up."""
    task = asyncio.ensure_future(serving)
    loop = asyncio.get_running_loop()
    told_to_stop = False

    def stop() -> None:
        nonlocal told_to_stop
        told_to_stop = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not told_to_stop:
            raise


def names(text: str) -> tuple[str, ...]:
    """`a,b` as names; an empty text names none."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
