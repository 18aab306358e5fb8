"""What an operator sees of checkouts: those there are, what went wrong, and one as a timeline."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import psycopg

from domain.commerce.checkout.decider import CHECKOUT, checkout_stream
from domain.commerce.checkout.events import CheckoutStarted
from domain.commerce.checkout.state import Checkout
from domain.commerce.order.decider import ORDER, order_stream
from domain.commerce.order.state import Order
from domain.commerce.stock.decider import stock_stream
from domain.shared.identifiers import id_text
from infra.adapters.connections import connected
from infra.adapters.reads.postgres_commerce_reads import PostgresCommerceReads
from infra.composition.settings import Settings
from infra.formats.codec import Line, decode_lines
from infra.formats.event_shapes import data_of
from infra.ports.log import LogUnavailable, Recorded
from infra.ports.sagas import NO_NEWS
from infra.runtime.event_documents import document
from processes import checkout as process
from processes import returns

EVENTS = """
    SELECT notification_id, originator_id, originator_version, state FROM log.events
    WHERE originator_id = ANY(%s) OR originator_id LIKE ANY(%s) ORDER BY notification_id
"""
STATUSES = ("pending", "awaiting_action", "confirmed", "rejected", "cancelled")


class NoSuchCheckout(Exception):
    """There is no checkout of this id."""


class Sealed:
    """A keyring without keys: nothing personal is shown to an operator."""

    def open(self, _person_id: str, _sealed: bytes | None) -> str | None:
        return None


async def listed(settings: Settings, status: str | None, limit: int) -> list[dict[str, Any]]:
    reads = PostgresCommerceReads(settings.postgres_url, 1)
    try:
        rows = await reads.checkouts_of(status, limit)
    finally:
        await reads.close()
    return [
        {"checkoutId": id_text(number), "status": status, "memberId": id_text(member)}
        for number, status, member in rows
    ]


async def problems(settings: Settings) -> list[dict[str, Any]]:
    reads = PostgresCommerceReads(settings.postgres_url, 1)
    try:
        rows = await reads.problems()
    finally:
        await reads.close()
    return [
        {
            "checkoutId": id_text(row.checkout_id),
            "orderId": None if row.order_id is None else id_text(row.order_id),
            "problem": row.problem,
        }
        for row in rows
    ]


async def shown(settings: Settings, checkout_id: str) -> dict[str, Any]:
    """Everything that happened in and around a checkout, in order, and what it waits for now.

    Raises `NoSuchCheckout` and `LogUnavailable`.
    """
    try:
        async with connected(settings.postgres_url, "plaza-checkouts") as connection:
            return await told(connection, checkout_id)
    except psycopg.Error as error:
        raise LogUnavailable(str(error)) from error


async def told(connection: psycopg.AsyncConnection[Any], checkout_id: str) -> dict[str, Any]:
    own = await events(connection, [checkout_stream(checkout_id)], [])
    if not own:
        raise NoSuchCheckout(checkout_id)
    history: list[Any] = [one.event for one in own]
    checkout: Checkout = reduce(CHECKOUT.evolve, history, CHECKOUT.initial)
    streams = [stock_stream(line.product_id) for line in process.lines(checkout)]
    streams += [order_stream(order.order_id) for order in checkout.orders]
    around = await events(connection, streams, [])
    references = set(references_in([*own, *around]))
    notices = await events(connection, [], [f"payment:{name}.%" for name in sorted(references)])
    mine = [one for one in around if concerns(one, checkout)]
    everything = sorted([*own, *mine, *notices], key=lambda one: one.position)
    return {
        "checkoutId": checkout_id,
        "status": checkout.status,
        "waitsFor": waits_for(checkout, order_states(around, checkout)),
        "timeline": [entry(one) for one in everything],
    }


async def events(
    connection: psycopg.AsyncConnection[Any], streams: list[str], patterns: list[str]
) -> list[Recorded]:
    rows = await (await connection.execute(EVENTS, [streams, patterns])).fetchall()
    return decode_lines([Line(*row) for row in rows])[0]


def concerns(recorded: Recorded, checkout: Checkout) -> bool:
    reservation = getattr(recorded.event, "reservation_id", None)
    reference = getattr(recorded.event, "reference", "")
    if recorded.stream.startswith("stock:"):
        held = reservation is not None and reservation.startswith(f"{checkout.checkout_id}.")
        orders = tuple(order.order_id for order in checkout.orders)
        return held or reference.startswith(orders)
    return True


def references_in(found: Iterable[Recorded]) -> Iterable[str]:
    """What the provider calls the payment and all that was done with it."""
    for one in found:
        reference = getattr(one.event, "psp_reference", "")
        if reference:
            yield reference


def order_states(around: Iterable[Recorded], checkout: Checkout) -> list[Order]:
    streams = {order_stream(order.order_id) for order in checkout.orders}
    states: dict[str, Order] = {}
    for one in around:
        if one.stream in streams:
            before = states.get(one.stream, ORDER.initial)
            event: Any = one.event
            states[one.stream] = ORDER.evolve(before, event)
    return list(states.values())


def entry(recorded: Recorded) -> dict[str, Any]:
    told = document(recorded, Sealed())  # type: ignore[arg-type]
    event = recorded.event
    data = told["data"]
    if isinstance(event, CheckoutStarted):
        data.pop("shippingAddress", None)
    return {
        "position": recorded.position,
        "at": told["recordedAt"],
        "stream": recorded.stream,
        "type": told["type"],
        "step": data.get("step"),
        "key": data.get("key"),
        "pspReference": data.get("pspReference") or None,
        "causationId": told["causationId"],
        "data": data,
    }


def waits_for(checkout: Checkout, orders: Iterable[Order]) -> list[dict[str, Any]]:
    """What a look at the sagas at this moment would ask, or wait for."""
    now = datetime.now(UTC)
    following = process.proceed(checkout, None, {}, NO_NEWS, now)
    found: list[dict[str, Any]] = [
        {"for": "the process", "what": type(command).__name__} for command in following.commands
    ]
    found += [
        {
            "for": "the provider",
            "what": call.step,
            "key": call.key,
            "tries": call.tries,
            "until": data_of(call.retry_at),
        }
        for call in checkout.calls.values()
        if call.status in {"asked", "accepted"}
    ]
    if checkout.phase == "action":
        found.append({"for": "the buyer", "what": "details", "until": data_of(checkout.deadline)})
    if checkout.phase == "pending":
        until = data_of(checkout.deadline)
        found.append({"for": "the provider", "what": "a notification", "until": until})
    for order in orders:
        later = returns.proceed(order, None, {}, NO_NEWS, now)
        found += [
            {"for": "the provider", "what": "refund", "key": refund.key, "tries": refund.tries}
            for refund in order.refunds.values()
            if refund.status in {"asked", "accepted"}
        ]
        found += [
            {"for": "the process", "what": type(command).__name__} for command in later.commands
        ]
    return found
