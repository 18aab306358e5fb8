"""`plaza import`: bring follows, posts or products in from a file."""

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from domain.shared.rejection import Invalid
from domain.social.member.values import check_password
from infra.command_line.numbers import whole
from infra.command_line.progress import progress_bar
from infra.command_line.verb import AskedWrongly, Context, Failure, print_json
from infra.composition.operations.importing import FileBroken, lines_of, objects_of, opened
from infra.composition.supervision.running import find_system
from infra.ports.log import LogUnavailable
from infra.runtime.commands.imports import Summary

BAD_LINES_SHOWN_MAX = 20


def declare(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(metavar="WHAT", required=True, dest="what")
    for name, about in (
        ("follows", "CSV, or CSV.gz: follower,followee"),
        ("posts", 'JSON lines: {"author", "content", "createdAt"?}'),
        (
            "products",
            "JSON array or lines: title, description, category, price, seller; or Name, … Brand",
        ),
    ):
        kind = kinds.add_parser(name, help=about, description=about)
        kind.add_argument("file", metavar="FILE", type=Path)
        kind.add_argument(
            "--prefix", default="m_", help="comes before every name of the file (default: m_)"
        )
        kind.add_argument("--password", help="of every new member; without one they cannot log in")
        if name == "products":
            kind.add_argument("--currency", default="EUR", help="of prices that are plain numbers")
            kind.add_argument(
                "--stock", type=whole, default=0, metavar="N", help="units of each received with it"
            )
        kind.set_defaults(run=run)


def run(context: Context) -> int:
    arguments = context.arguments
    if not arguments.file.is_file():
        raise AskedWrongly(f"there is no file {arguments.file}")
    if arguments.password is not None:
        try:
            check_password(arguments.password)
        except Invalid as problem:
            raise AskedWrongly(f"--password {problem.detail}") from problem
    began = time.monotonic()
    summary = Summary()
    broken: Exception | None = None
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(bring_in(context, summary))
    except LogUnavailable as problem:
        broken = Failure(f"the log cannot be reached any more: {problem}; import again to go on")
    except FileBroken as problem:
        broken = problem
    report(context, summary, time.monotonic() - began, broken)
    return 0 if broken is None else 1


async def bring_in(context: Context, summary: Summary) -> None:
    arguments = context.arguments
    settings, _ = find_system(context.settings)
    with progress_bar(context) as progress:
        task = progress.add_task(
            f"importing {arguments.what}", total=arguments.file.stat().st_size, done=""
        )

        def told(so_far: Summary) -> None:
            progress.update(task, completed=so_far.bytes_read, done=f"{so_far.lines:,} lines")

        async with opened(settings, arguments.prefix, arguments.password, told) as importer:
            importer.summary = summary
            match arguments.what:
                case "follows":
                    await importer.follows(lines_of(arguments.file))
                case "posts":
                    await importer.posts(lines_of(arguments.file))
                case _:
                    objects = objects_of(arguments.file)
                    await importer.products(objects, arguments.currency, arguments.stock)


def report(context: Context, summary: Summary, seconds: float, broken: Exception | None) -> None:
    what = context.arguments.what
    if context.json:
        document: dict[str, Any] = {
            "lines": summary.lines,
            what: summary.added,
            "members": summary.members,
            "unchanged": summary.unchanged,
            "badLines": summary.bad_lines,
            "bad": [msgspec.to_builtins(bad) for bad in summary.bad],
            "seconds": round(seconds, 3),
        }
        if broken is not None:
            document["error"] = str(broken)
        print_json(document)
        return
    for bad in summary.bad[:BAD_LINES_SHOWN_MAX]:
        sys.stderr.write(f"line {bad.line}: {bad.error}\n")
    if summary.bad_lines > BAD_LINES_SHOWN_MAX:
        sys.stderr.write(f"… and {summary.bad_lines - BAD_LINES_SHOWN_MAX} bad lines more\n")
    if broken is not None:
        sys.stderr.write(f"plaza: {broken}\n")
    print(
        f"{summary.lines:,} lines in {seconds:.1f} s: {summary.added:,} {what} and "
        f"{summary.members:,} members added, {summary.unchanged:,} there before, "
        f"{summary.bad_lines:,} bad lines skipped"
    )
