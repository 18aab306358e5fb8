"""`plaza projections rebuild`: compare, build beside what is served, and switch."""

import argparse
from typing import Any

import uvloop

from infra.command_line.progress import progress_bar
from infra.command_line.verb import FAILED, AskedWrongly, Context, Failure, print_json
from infra.command_line.verify import shown
from infra.composition.rebuilding import AlreadyRebuilding, compare, rebuild
from infra.composition.running import find_system
from infra.composition.verifying import CannotVerify
from infra.ports import LogUnavailable
from infra.tables import StoreUnavailable
from projections import COMMERCE, SOCIAL


def declare_rebuild(kinds: Any) -> None:
    """Add it to the verbs of `plaza projections`."""
    about = "build the tables anew beside those being served, and switch; 1 if it did not switch"
    kind: argparse.ArgumentParser = kinds.add_parser("rebuild", help=about, description=about)
    kind.add_argument("name", metavar="NAME")
    kind.add_argument(
        "--accept-different",
        action="store_true",
        help="switch also where what is built differs from what is served",
    )
    kind.set_defaults(run=run)


def run(context: Context) -> int:
    known = {projection.name: projection for projection in (*SOCIAL, *COMMERCE)}
    name = context.arguments.name
    if name not in known:
        raise AskedWrongly(f"there is no projection {name}; there are {', '.join(known)}")
    try:
        found = uvloop.run(rebuilt(context, known[name]))
    except (AlreadyRebuilding, CannotVerify) as problem:
        raise Failure(str(problem)) from problem
    except (LogUnavailable, StoreUnavailable, OSError) as problem:
        raise Failure(f"the database cannot be reached: {problem}") from problem
    report(context, found)
    return 0 if found["switched"] else FAILED


async def rebuilt(context: Context, projection: Any) -> dict[str, Any]:
    settings, _ = find_system(context.settings)
    with progress_bar(context) as progress:
        comparing = progress.add_task(f"comparing {projection.name}", total=None, done="")
        building = progress.add_task(f"rebuilding {projection.name}", total=None, done="")

        def told(what: str, reached: int, end: int) -> None:
            task = building if what == "rebuilding" else comparing
            progress.update(task, completed=reached, total=end, done=f"at {reached:,}")

        found = await compare(settings, projection, told)
        same = found["comparable"] and not found["different"]
        switch = same or context.arguments.accept_different
        if switch:
            await rebuild(settings, projection, told)
    return {**found, "switched": switch}


def report(context: Context, found: dict[str, Any]) -> None:
    if context.json:
        print_json(found)
        return
    if not found["comparable"]:
        print(f"{found['name']} is served from tables of another shape: nothing to compare")
    elif found["different"]:
        print(f"{found['different']:,} of {found['documents']:,} documents would be others")
        for example in found["examples"]:
            print(f"\n{example['table']}")
            print(f"  the log gives {shown(example['folded'])}")
            print(f"  served is     {shown(example['served'])}")
    if found["switched"]:
        print(f"{found['name']} was built anew and is being served")
    else:
        print("\nnothing was switched; --accept-different builds it anew and serves that")
