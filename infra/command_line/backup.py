"""`plaza backup`: keep all that cannot be computed again in a folder or a bucket."""

import argparse
from typing import Any

import psycopg

from infra.adapters.archives.backup_places import PlaceFailed
from infra.adapters.archives.database_copy import Damaged, NotEmpty
from infra.adapters.archives.export_folder import ExportRefused
from infra.command_line.progress import telling
from infra.command_line.verb import Context, Failure, print_json
from infra.composition.operations.backing_up import Backup, BackupRefused, back_up
from infra.composition.supervision.own_database import DatabaseFailed

PROBLEMS = (
    BackupRefused, Damaged, DatabaseFailed, ExportRefused, NotEmpty, PlaceFailed, psycopg.Error,
    OSError,
)  # fmt: skip


def declare(parser: argparse.ArgumentParser) -> None:
    declare_place(parser)
    parser.set_defaults(run=run)


def declare_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "place",
        metavar="DIR",
        help="a folder, or s3://bucket/prefix?endpoint_override=host:port&scheme=http",
    )
    parser.add_argument(
        "--keys", metavar="DIR", help="keep the keys there instead (a folder or s3://…)"
    )


def run(context: Context) -> int:
    arguments = context.arguments
    try:
        with telling(context) as told:
            made = back_up(context.settings, arguments.place, arguments.keys, told)
    except PROBLEMS as problem:
        raise Failure(str(problem)) from problem
    if context.json:
        print_json(described(made))
    else:
        print(f"{made.events:,} events up to position {made.position:,}, {made.bytes:,} bytes")
    return 0


def described(backup: Backup) -> dict[str, Any]:
    return {
        "position": backup.position,
        "events": backup.events,
        "bytes": backup.bytes,
        "madeAt": backup.made_at.isoformat(),
        "segments": len(backup.segments),
        "tables": {one.table: one.rows for one in backup.tables},
    }
