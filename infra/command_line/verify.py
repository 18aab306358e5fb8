"""`plaza projections verify`: is what is served what the log says? Asked while traffic goes on."""

import argparse
from typing import Any

import msgspec
import uvloop

from infra.command_line.progress import progress_bar
from infra.command_line.tables import print_rows
from infra.command_line.verb import FAILED, AskedWrongly, Context, Failure, print_json
from infra.composition.running import find_system
from infra.composition.verifying import CannotVerify, NotServed, verify
from infra.ports import LogUnavailable
from infra.runtime.projection import Projection
from infra.tables import StoreUnavailable
from projections import COMMERCE, SOCIAL


def declare_verify(kinds: Any) -> None:
    """Add it to the verbs of `plaza projections`."""
    about = "fold the log again and compare with what is served; 1 if anything differs"
    kind: argparse.ArgumentParser = kinds.add_parser("verify", help=about, description=about)
    kind.add_argument("name", metavar="NAME", nargs="?", help="this one only (default: all)")
    kind.set_defaults(run=run)


def run(context: Context) -> int:
    name = context.arguments.name
    known = {projection.name: projection for projection in (*SOCIAL, *COMMERCE)}
    if name is not None and name not in known:
        raise AskedWrongly(f"there is no projection {name}; there are {', '.join(known)}")
    chosen = list(known.values()) if name is None else [known[name]]
    try:
        rows = uvloop.run(verified(context, chosen))
    except NotServed as problem:
        raise Failure(str(problem)) from problem
    except (LogUnavailable, StoreUnavailable, OSError) as problem:
        raise Failure(f"the database cannot be reached: {problem}") from problem
    report(context, rows)
    return FAILED if any(row["different"] or row.get("error") for row in rows) else 0


async def verified(context: Context, chosen: list[Projection]) -> list[dict[str, Any]]:
    """One row a projection. Of several, those that are not served are left out."""
    settings, _ = find_system(context.settings)
    rows = []
    with progress_bar(context) as progress:
        for projection in chosen:
            task = progress.add_task(f"verifying {projection.name}", total=None, done="")

            def told(_name: str, reached: int, end: int, task: Any = task) -> None:
                progress.update(task, completed=reached, total=end, done=f"at {reached:,}")

            try:
                rows.append(await verify(settings, projection, told))
            except NotServed:
                if len(chosen) == 1:
                    raise
            except CannotVerify as problem:
                rows.append(
                    {
                        "name": projection.name,
                        "documents": 0,
                        "different": 0,
                        "examples": [],
                        "error": str(problem),
                    }
                )
    return rows


def report(context: Context, rows: list[dict[str, Any]]) -> None:
    if context.json:
        print_json(rows)
        return
    print_rows(
        rows,
        {
            "name": "projection",
            "documents": "documents",
            "different": "different",
            "position": "at position",
            "setAside": "events set aside",
        },
    )
    for row in rows:
        if row.get("error"):
            print(f"\n{row['name']}: {row['error']}")
        for example in row["examples"]:
            print(f"\n{row['name']}: {example['table']}")
            print(f"  the log gives {shown(example['folded'])}")
            print(f"  served is     {shown(example['served'])}")


def shown(row: Any) -> str:
    return "no such row" if row is None else msgspec.json.encode(row).decode()
