"""`plaza projections verify`: is what is served what the log says? Asked while traffic goes on."""

import argparse
from functools import partial
from typing import Any

import msgspec
import uvloop

from infra.command_line.background import give_way_to_others
from infra.command_line.differences import print_differences
from infra.command_line.tables import print_rows
from infra.command_line.verb import FAILED, AskedWrongly, Context, Failure, print_json
from infra.command_line.watching import watching
from infra.composition.operations.keepers import keepers, verifications, verify_one
from infra.composition.supervision.running import find_system
from infra.formats.event_shapes import camel
from infra.ports.keepers import Different, NotServed, Verified
from infra.ports.log import LogUnavailable
from infra.ports.tables import StoreUnavailable
from infra.ports.timelines import TimelinesUnavailable


def declare_verify(kinds: Any) -> None:
    """Add it to the verbs of `plaza projections`."""
    about = "fold the log again and compare with what is served; 1 if anything differs"
    kind: argparse.ArgumentParser = kinds.add_parser("verify", help=about, description=about)
    kind.add_argument("name", metavar="NAME", nargs="?", help="this one only (default: all)")
    kind.add_argument(
        "--repair", action="store_true", help="mend what differs, document by document"
    )
    kind.set_defaults(run=run)


def run(context: Context) -> int:
    give_way_to_others()
    try:
        rows = uvloop.run(verified(context))
    except NotServed as problem:
        raise Failure(str(problem)) from problem
    except (LogUnavailable, StoreUnavailable, TimelinesUnavailable, OSError) as problem:
        raise Failure(f"what this needs cannot be reached: {problem}") from problem
    report(context, rows)
    bad = [row for row in rows if row.get("error") or row["different"] > row.get("repaired", 0)]
    return FAILED if bad else 0


async def verified(context: Context) -> list[dict[str, Any]]:
    """One row a projection. Of several, those that are not served are left out."""
    settings, _ = find_system(context.settings)
    name, repair = context.arguments.name, context.arguments.repair
    if name is None:
        ways = verifications(settings, repair=repair)
    elif keeper := keepers(settings).get(name):
        ways = {name: partial(verify_one, keeper, repair=repair)}
    else:
        raise AskedWrongly(
            f"there is no projection {name}; there are {', '.join(keepers(settings))}"
        )
    rows = []
    for what, verify in ways.items():
        with watching(context, what) as told:
            found = await verify(told)
        for projection, one in found.items():
            if isinstance(one, Verified):
                rows.append(row_of(one))
            elif isinstance(one, NotServed) and name is None:
                continue
            elif isinstance(one, NotServed):
                raise one
            else:
                row = {"name": projection, "documents": 0, "different": 0, "examples": []}
                rows.append(row | {"error": str(one)})
    return rows


def row_of(found: Verified) -> dict[str, Any]:
    return {camel(name): value for name, value in msgspec.to_builtins(found).items()}


def report(context: Context, rows: list[dict[str, Any]]) -> None:
    if context.json:
        print_json(rows)
        return
    headings = {
        "name": "projection",
        "documents": "documents",
        "different": "different",
        "position": "at position",
        "setAside": "events set aside",
    }
    if context.arguments.repair:
        headings["repaired"] = "repaired"
    print_rows(rows, headings)
    for row in rows:
        if row.get("error"):
            print(f"\n{row['name']}: {row['error']}")
        print_differences(msgspec.convert(row["examples"], list[Different]), "", "log", "served")
