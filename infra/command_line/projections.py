"""`plaza projections`: how far each projection has got, and what can be done with it."""

import argparse
import asyncio

import psycopg

from infra.command_line.rebuild import declare_rebuild, declare_switch
from infra.command_line.tables import print_rows
from infra.command_line.verb import Context, Failure, print_json
from infra.command_line.verify import declare_verify
from infra.composition.operations.keepers import overview
from infra.composition.supervision.running import find_system


def declare(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(metavar="WHAT", required=True, dest="what")
    about = "each projection's version, position and lag"
    kind = kinds.add_parser("list", help=about, description=f"plaza projections list: {about}.")
    kind.set_defaults(run=run)
    declare_verify(kinds)
    declare_rebuild(kinds)
    declare_switch(kinds)


def run(context: Context) -> int:
    settings, _ = find_system(context.settings)
    try:
        rows = asyncio.run(overview(settings))
    except (psycopg.Error, OSError) as problem:
        raise Failure(f"the database cannot be reached: {problem}") from problem
    if context.json:
        print_json(rows)
    else:
        headings = {
            "name": "projection",
            "build": "build",
            "version": "version",
            "status": "status",
            "position": "position",
            "lagEvents": "events behind",
            "lagSeconds": "seconds behind",
            "parked": "parked",
        }
        if any("consumerLag" in row for row in rows):
            headings["consumerLag"] = "frames waiting in Kafka"
        print_rows(rows, headings)
    return 0
