"""`plaza checkouts`: what became of each, and one as a timeline."""

import argparse
import asyncio
from collections.abc import Coroutine
from typing import Any

from infra.command_line.numbers import whole
from infra.command_line.tables import print_rows
from infra.command_line.verb import Context, Failure, print_json
from infra.composition.operations import checkouts
from infra.composition.operations.checkouts import STATUSES, NoSuchCheckout
from infra.composition.supervision.running import find_system
from infra.ports.log import LogUnavailable
from infra.ports.reads import ReadsUnavailable

LIMIT = 50


def declare(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(metavar="WHAT", required=True, dest="what")
    about = "the newest checkouts, or those that an operator has to look at"
    kind = kinds.add_parser("list", help=about, description=f"plaza checkouts list: {about}.")
    kind.add_argument(
        "--problem",
        action="store_true",
        help="captures, refunds, cancels that failed, or that the provider tells nothing of",
    )
    kind.add_argument("--status", choices=STATUSES, help="in this status only")
    kind.add_argument("--limit", type=whole, default=LIMIT, metavar="N", help="at most so many")
    kind.set_defaults(run=run_list)
    about = "everything that happened to a checkout, in order, and what it waits for"
    kind = kinds.add_parser("show", help=about, description=f"plaza checkouts show: {about}.")
    kind.add_argument("id", metavar="ID")
    kind.set_defaults(run=run_show)


def run_list(context: Context) -> int:
    settings, _ = find_system(context.settings)
    arguments = context.arguments
    if arguments.problem:
        rows = asked(checkouts.problems(settings))
        columns = {"checkoutId": "checkout", "orderId": "order", "problem": "problem"}
    else:
        rows = asked(checkouts.listed(settings, arguments.status, arguments.limit))
        columns = {"checkoutId": "checkout", "status": "status", "memberId": "buyer"}
    if context.json:
        print_json(rows)
    elif rows:
        print_rows(rows, columns)
    else:
        print("there is none")
    return 0


def run_show(context: Context) -> int:
    settings, _ = find_system(context.settings)
    found = asked(checkouts.shown(settings, context.arguments.id))
    if context.json:
        print_json(found)
        return 0
    print(f"checkout {found['checkoutId']}: {found['status']}")
    columns = {
        "position": "position",
        "at": "time",
        "type": "event",
        "key": "key",
        "pspReference": "provider's reference",
        "detail": "",
    }
    print_rows([{**row, "detail": detail(row)} for row in found["timeline"]], columns)
    for wait in found["waitsFor"]:
        more = [f"{name} {wait[name]}" for name in ("key", "tries", "until") if wait.get(name)]
        print(" ".join(["waits for", wait["for"] + ":", wait["what"], *more]))
    if not found["waitsFor"]:
        print("waits for nothing")
    return 0


def detail(row: dict[str, Any]) -> str:
    """What makes this event differ from others of its type, in a few words."""
    data = row["data"]
    names = (
        "step",
        "eventCode",
        "success",
        "reason",
        "code",
        "quantity",
        "retryAt",
        "refundId",
        "reservationId",
    )
    found = [str(data[name]) for name in names if data.get(name) not in {None, ""}]
    return " ".join(found)


def asked(question: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(question)
    except NoSuchCheckout as error:
        raise Failure(f"there is no checkout {error}") from error
    except (LogUnavailable, ReadsUnavailable) as error:
        raise Failure(f"the database cannot be reached: {error}") from error
