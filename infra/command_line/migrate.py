"""`plaza migrate`: make the tables of the log and the read models, or bring them up to date."""

import argparse
import asyncio

from infra.adapters.migrations import migrate
from infra.command_line.verb import Context, print_json
from infra.composition.supervision.running import find_system


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)


def run(context: Context) -> int:
    settings, _ = find_system(context.settings)
    asyncio.run(migrate(settings.postgres_url))
    if context.json:
        print_json({"migrated": True})
    return 0
