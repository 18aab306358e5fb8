"""`plaza export events`: a range of the log as Parquet files, the same bytes for the same range."""

import argparse
import time
from pathlib import Path

import uvloop

from infra.adapters.archives.export_folder import MANIFEST, Asked, ExportRefused, Manifest
from infra.command_line.numbers import whole
from infra.command_line.processes import names
from infra.command_line.progress import progress_bar
from infra.command_line.verb import AskedWrongly, Context, Failure, print_json
from infra.composition.operations.exporting import export_events
from infra.composition.supervision.running import find_system
from infra.formats.codec import EVENT_CLASSES
from infra.ports.log import LogUnavailable


def declare(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(metavar="WHAT", required=True, dest="what")
    about = "Parquet files and a manifest; interrupted, it goes on where it was"
    kind = kinds.add_parser("events", help=about, description=f"plaza export events: {about}.")
    kind.add_argument("--out", type=Path, required=True, metavar="DIR", help="into this folder")
    kind.add_argument("--types", type=names, default=(), metavar="A,B", help="of these types only")
    kind.add_argument("--after", type=whole, default=0, metavar="P", help="after this position")
    kind.add_argument(
        "--before", type=whole, metavar="P", help="before this position (default: the log's end)"
    )
    kind.add_argument(
        "--typed", action="store_true", help="besides, a folder a type with typed columns"
    )
    kind.set_defaults(run=run)


def run(context: Context) -> int:
    arguments = context.arguments
    if unknown := set(arguments.types) - EVENT_CLASSES.keys():
        raise AskedWrongly(f"there is no event type {', '.join(sorted(unknown))}")
    if arguments.before is not None and arguments.before <= arguments.after:
        raise AskedWrongly("--before must be greater than --after: both are exclusive")
    began = time.monotonic()
    try:
        manifest = uvloop.run(exported(context))
    except LogUnavailable as problem:
        raise Failure(
            f"the log cannot be reached any more: {problem}; export again to go on"
        ) from problem
    except (ExportRefused, OSError) as problem:
        raise Failure(str(problem)) from problem
    report(context, manifest, time.monotonic() - began)
    return 0


async def exported(context: Context) -> Manifest:
    arguments = context.arguments
    settings, _ = find_system(context.settings)
    with progress_bar(context) as progress:
        task = progress.add_task("exporting events", total=None, done="")

        def told(reached: int, after: int, before: int) -> None:
            progress.update(
                task, completed=reached - after, total=before - after, done=f"at {reached:,}"
            )

        asked = Asked(
            after=arguments.after,
            before=arguments.before,
            types=arguments.types,
            typed=arguments.typed,
        )
        return await export_events(settings, arguments.out, asked, told)


def report(context: Context, manifest: Manifest, seconds: float) -> None:
    folder = context.arguments.out
    size = sum(file.bytes for file in manifest.files)
    if context.json:
        print_json(
            {
                "folder": str(folder),
                "manifest": str(folder / MANIFEST),
                "after": manifest.asked.after,
                "before": manifest.asked.before,
                "events": manifest.events,
                "firstPosition": manifest.first_position,
                "lastPosition": manifest.last_position,
                "unreadable": manifest.unreadable,
                "files": len(manifest.files),
                "bytes": size,
                "seconds": round(seconds, 3),
            }
        )
        return
    print(
        f"{manifest.events:,} events in {len(manifest.files):,} files, {size:,} bytes, in"
        f" {folder} after {seconds:.1f} s"
    )
    if manifest.unreadable:
        print(f"{manifest.unreadable:,} of them cannot be read: their data is null")
