"""`plaza up`: everything on this machine, until SIGINT or SIGTERM."""

import argparse
import asyncio
import contextlib
import sys

import msgspec

from infra.command_line.verb import Context, Failure, print_json
from infra.composition.logging import configure_logging
from infra.composition.settings import unknown_variables
from infra.composition.supervision import everything
from infra.composition.supervision.running import Running


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument(
        "--full",
        action="store_true",
        help="with Kafka, the relay, Faust workers and OpenSearch (needs a Java 21 or later)",
    )


def run(context: Context) -> int:
    plan = everything.Plan(context.settings, context.environ, context.arguments.full)

    def tell(line: str) -> None:
        # Whoever started us may be gone; that is no reason to end.
        with contextlib.suppress(OSError):
            (sys.stderr if context.json else sys.stdout).write(f"{line}\n")
            (sys.stderr if context.json else sys.stdout).flush()

    def on_ready(running: Running) -> None:
        if context.json:
            print_json(msgspec.to_builtins(running))

    logs = plan.logs
    logs.mkdir(parents=True, mode=0o700, exist_ok=True)
    log_file = (logs / "up.log").open("a", buffering=1)
    configure_logging("up", context.settings.log_level, log_file)
    tell(f"Plaza, {plan.mode}: data in {context.settings.folder}")
    for name, meant in unknown_variables(context.environ).items():
        tell(f"{name} is not a setting" + (f"; did you mean {meant}?" if meant else ""))
    try:
        asyncio.run(everything.run(plan, tell, on_ready))
    except everything.StartFailed as problem:
        raise Failure(str(problem)) from problem
    return 0
