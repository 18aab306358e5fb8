"""`plaza restore`: fill an empty system with a backup, up to its end or to any position in it."""

import argparse

from infra.command_line.backup import PROBLEMS, declare_place, described
from infra.command_line.numbers import whole
from infra.command_line.progress import telling
from infra.command_line.verb import AskedWrongly, Context, Failure, print_json
from infra.composition.operations.backing_up import check, restore


def declare(parser: argparse.ArgumentParser) -> None:
    declare_place(parser)
    parser.add_argument(
        "--at", type=whole, metavar="P", help="as of this position (default: the backup's end)"
    )
    parser.add_argument(
        "--check", action="store_true", help="only read it all and compare the checksums"
    )
    parser.set_defaults(run=run)


def run(context: Context) -> int:
    arguments = context.arguments
    if arguments.check and arguments.at is not None:
        raise AskedWrongly("--check reads all of a backup: leave out --at")
    try:
        with telling(context) as told:
            if arguments.check:
                found, reached = check(arguments.place, arguments.keys, told), None
            else:
                found, reached = restore(
                    context.settings, arguments.place, arguments.keys, arguments.at, told
                )
    except PROBLEMS as problem:
        raise Failure(str(problem)) from problem
    if context.json:
        print_json({**described(found), "restored": reached})
    elif reached is None:
        print(f"{found.events:,} events up to position {found.position:,} are as they were written")
    else:
        print(
            f"the log is at position {reached:,}; start the system, and see with"
            " `plaza projections verify` that everything has been computed again"
        )
    return 0
