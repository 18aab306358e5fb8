"""`plaza replay`: what a projection makes of a range of the log, in a file."""

import argparse
import time
from pathlib import Path

import msgspec
import uvloop

from infra.command_line.log_reading import told_in_words
from infra.command_line.numbers import whole
from infra.command_line.progress import progress_bar
from infra.command_line.verb import AskedWrongly, Context, print_json
from infra.composition.operations.replaying import (
    NoSuchProjection,
    Replayed,
    ReplayFailed,
    find_projection,
    replay,
)
from infra.composition.supervision.running import find_system
from infra.runtime.projecting.projection import Projection


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--projection",
        required=True,
        metavar="NAME|file.py:NAME",
        help="one of Plaza's, or one in a file (which is run)",
    )
    parser.add_argument("--after", type=whole, default=0, metavar="P", help="after this position")
    parser.add_argument(
        "--before", type=whole, metavar="P", help="before this position (default: the log's end)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON lines")
    parser.set_defaults(run=run)


def run(context: Context) -> int:
    arguments = context.arguments
    if arguments.before is not None and arguments.before <= arguments.after:
        raise AskedWrongly("--before must be greater than --after: both are exclusive")
    if not arguments.out.parent.is_dir():
        raise AskedWrongly(f"there is no folder {arguments.out.parent}")
    if arguments.out.is_dir():
        raise AskedWrongly(f"{arguments.out} is a folder: name a file in it")
    try:
        projection = find_projection(arguments.projection)
    except NoSuchProjection as problem:
        raise AskedWrongly(str(problem)) from problem
    began = time.monotonic()
    with told_in_words(ReplayFailed, OSError):
        done = uvloop.run(replayed(context, projection))
    report(context, done, time.monotonic() - began)
    return 0


async def replayed(context: Context, projection: Projection) -> Replayed:
    arguments = context.arguments
    settings, _ = find_system(context.settings)
    with progress_bar(context) as progress:
        task = progress.add_task(f"replaying {projection.name}", total=None, done="")

        def told(reached: int, after: int, before: int) -> None:
            progress.update(
                task, completed=reached - after, total=before - after, done=f"at {reached:,}"
            )

        return await replay(
            settings,
            projection,
            arguments.out,
            (arguments.after, arguments.before),
            told,
        )


def report(context: Context, done: Replayed, seconds: float) -> None:
    if context.json:
        print_json({**msgspec.to_builtins(done), "seconds": round(seconds, 3)})
        return
    print(
        f"{done.events:,} events after {done.after:,} and before {done.before:,} left"
        f" {done.rows:,} rows in {done.file}, in {seconds:.1f} s"
    )
    for name, count in done.tables.items():
        print(f"  {name:24} {count:>12,}")
    if done.unknown_rows:
        print(f"{done.unknown_rows:,} changes were to rows that began before the range")
    if done.unreadable:
        print(f"{done.unreadable:,} rows of the log cannot be read")
