"""`plaza config`: every setting with its value and where that comes from."""

import argparse

from infra.command_line.tables import print_rows
from infra.command_line.verb import Context, print_json
from infra.composition.settings import describe, descriptions
from infra.composition.supervision.running import NotRunning, find_system


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)


def run(context: Context) -> int:
    try:
        settings, own = find_system(context.settings)
    except NotRunning:
        settings, own = context.settings, []
    rows = describe(settings, context.environ, own)
    if context.json:
        print_json(rows)
    else:
        about = descriptions()
        print_rows(
            [row | {"about": about[row["name"]]} for row in rows],
            {"name": "setting", "value": "value", "source": "from", "about": "what it is"},
        )
    return 0
