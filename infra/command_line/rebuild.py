"""`plaza projections rebuild` and `switch`: make anew beside what is served, compare, serve."""

import argparse
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvloop

from infra.command_line.background import give_way_to_others
from infra.command_line.differences import print_differences
from infra.command_line.verb import FAILED, AskedWrongly, Context, Failure, print_json
from infra.command_line.watching import watching
from infra.composition.operations.keepers import keepers
from infra.composition.supervision.running import find_system
from infra.formats.event_shapes import camel
from infra.ports.keepers import (
    AlreadyRebuilding,
    CannotSwitch,
    CannotVerify,
    Keeper,
    NoSuchKey,
    Progress,
    Rebuilt,
    Wishes,
)
from infra.ports.log import LogUnavailable
from infra.ports.tables import StoreUnavailable
from infra.ports.timelines import TimelinesUnavailable

Call = Callable[[Keeper, Progress], Awaitable[Any]]


def declare_rebuild(kinds: Any) -> None:
    """Add it to the verbs of `plaza projections`."""
    about = "make it anew beside what is served, and switch; 1 if it did not switch"
    kind: argparse.ArgumentParser = kinds.add_parser(
        "rebuild",
        help=about,
        description=f"{about}. Killed at any point, it goes on when repeated.",
    )
    kind.add_argument("name", metavar="NAME")
    kind.add_argument(
        "--accept-different",
        action="store_true",
        help="switch also where what is built differs from what is served",
    )
    how = kind.add_mutually_exclusive_group()
    how.add_argument(
        "--in-place",
        action="store_true",
        help="write what differs into what is served, in one transaction: for small ones",
    )
    how.add_argument(
        "--key",
        metavar="KIND:ID",
        help="only what is kept under this key, such as post:… or member:…",
    )
    how.add_argument(
        "--anew",
        action="store_true",
        help="begin again rather than go on with a build begun before",
    )
    kind.add_argument(
        "--hurry",
        action="store_true",
        help="be as urgent as what serves pages: for a machine where nothing is served",
    )
    kind.set_defaults(run=run_rebuild)


def declare_switch(kinds: Any) -> None:
    about = "serve another build, brought up to date first"
    kind: argparse.ArgumentParser = kinds.add_parser("switch", help=about, description=about)
    kind.add_argument("name", metavar="NAME")
    which = kind.add_mutually_exclusive_group(required=True)
    which.add_argument("--to", metavar="BUILD", type=int, help="the build of this number")
    which.add_argument("--back", action="store_true", help="the one that was served before")
    kind.set_defaults(run=run_switch)


def run_rebuild(context: Context) -> int:
    arguments = context.arguments
    if not arguments.hurry:
        give_way_to_others()
    if arguments.key is not None:
        count = ask(context, lambda keeper, told: keeper.rebuild_key(arguments.key, told))
        if context.json:
            print_json({"name": arguments.name, "key": arguments.key, "documents": count})
        else:
            print(f"{count:,} documents of {arguments.name} under {arguments.key} were made anew")
        return 0
    wishes = Wishes(
        accept_different=arguments.accept_different,
        in_place=arguments.in_place,
        anew=arguments.anew,
    )
    done: Rebuilt = ask(context, lambda keeper, told: keeper.rebuild(told, wishes))
    report(context, done)
    return 0 if done.switched else FAILED


def run_switch(context: Context) -> int:
    name, wanted = context.arguments.name, context.arguments.to
    build = ask(context, lambda keeper, told: keeper.switch(wanted, told))
    if context.json:
        print_json({"name": name, "build": build})
    else:
        print(f"build {build} of {name} is being served")
    return 0


def ask(context: Context, call: Call) -> Any:
    name = context.arguments.name

    async def asked() -> Any:
        settings, _ = find_system(context.settings)
        known = keepers(settings)
        if name not in known:
            raise AskedWrongly(f"there is no projection {name}; there are {', '.join(known)}")
        with watching(context, name) as told:
            return await call(known[name], told)

    try:
        return uvloop.run(asked())
    except NoSuchKey as problem:
        raise AskedWrongly(str(problem)) from problem
    except (AlreadyRebuilding, CannotSwitch, CannotVerify) as problem:
        raise Failure(str(problem)) from problem
    except (LogUnavailable, StoreUnavailable, TimelinesUnavailable, OSError) as problem:
        raise Failure(f"what this needs cannot be reached: {problem}") from problem


def report(context: Context, done: Rebuilt) -> None:
    found = done.found
    if context.json:
        compared = {} if found is None else msgspec.to_builtins(found)
        if found is not None:
            compared["compared_with"] = compared.pop("build")
        own = {"name": done.name, "build": done.build, "switched": done.switched}
        shown = {**compared, **own, "resumed_at": done.resumed_at}
        print_json({camel(name): value for name, value in shown.items()})
        return
    if done.resumed_at:
        print(f"went on with build {done.build} at {done.resumed_at:,}")
    if found is not None:
        if not found.comparable:
            print(f"build {done.build} has other fields than build {found.build}, which is served")
        print(
            f"{found.different:,} of {found.documents:,} documents differ at position"
            f" {found.position:,}"
        )
        print_differences(found.examples, "build", f"{done.build}", f"{found.build}")
    if done.switched:
        print(f"build {done.build} of {done.name} is being served")
        return
    print(
        f"\nbuild {done.build} is complete, and was not switched to: build"
        f" {found.build if found else '?'} is still served.\n"
        f"  plaza projections switch {done.name} --to {done.build}\n"
        f"  plaza projections rebuild {done.name} --accept-different\n"
        f"bring it up to date and serve it to everybody at once; what is served now is kept, to be"
        f" gone back to"
    )
