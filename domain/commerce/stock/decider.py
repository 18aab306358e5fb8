"""Stock of one product: units on hand, and the reservations that hold some of them.

A reservation ends in exactly one way: committed (sold), released, or expired.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import reduce
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.commerce.stock import commands, events
from domain.commerce.stock.commands import StockCommand
from domain.commerce.stock.events import StockEvent
from domain.commerce.stock.rejections import OutOfStock, ReservationIdTaken, ReservationNotHeld
from domain.shared.decider import Decider
from domain.shared.rejection import Invalid
from domain.shared.values import check_text

QUANTITY_MAX = 10**9
REFERENCE_LENGTH_MAX = 200
NOTHING: frozenset[str] = frozenset()


class Reservation(Struct, frozen=True):
    quantity: int
    expires_at: datetime


class StockItem(Struct, frozen=True):
    """`held` is the sum of all reservations; `references` are the deliveries counted so far."""

    on_hand: int = 0
    held: int = 0
    reservations: Mapping[str, Reservation] = {}
    references: frozenset[str] = NOTHING
    first_expiry: datetime | None = None

    @property
    def available(self) -> int:
        return self.on_hand - self.held


def decide(command: StockCommand, item: StockItem, now: datetime) -> list[StockEvent]:
    # Time passes first: what has run out is given back before the command is considered.
    expired = expire(command.product_id, item, now)
    item = reduce(evolve, expired, item)
    match command:
        case commands.ReceiveStock():
            return expired + receive(command, item)
        case commands.ReserveStock():
            return expired + reserve(command, item)
        case commands.CommitReservation():
            return expired + commit(command, item)
        case commands.ReleaseReservation():
            return expired + release(command, item)
        case commands.ExpireReservations():
            return expired
        case _:
            assert_never(command)


def receive(command: commands.ReceiveStock, item: StockItem) -> list[StockEvent]:
    check_text(command.reference, "/reference", length_min=1, length_max=REFERENCE_LENGTH_MAX)
    if not 0 < command.quantity <= QUANTITY_MAX:
        raise Invalid("/quantity", f"must be 1 to {QUANTITY_MAX}")
    if command.reference in item.references:
        return []
    return [
        events.StockReceived(
            product_id=command.product_id, quantity=command.quantity, reference=command.reference
        )
    ]


def reserve(command: commands.ReserveStock, item: StockItem) -> list[StockEvent]:
    held = item.reservations.get(command.reservation_id)
    if held is not None and held.quantity != command.quantity:
        raise ReservationIdTaken(reservation_id=command.reservation_id, held=held.quantity)
    if held is not None:
        return []  # A retry: the caller already has what it asks for.
    if command.quantity > item.available:
        raise OutOfStock(command.product_id, command.quantity, item.available)
    return [
        events.StockReserved(
            product_id=command.product_id,
            reservation_id=command.reservation_id,
            quantity=command.quantity,
            expires_at=command.expires_at,
        )
    ]


def commit(command: commands.CommitReservation, item: StockItem) -> list[StockEvent]:
    held = item.reservations.get(command.reservation_id)
    if held is None:
        raise ReservationNotHeld(command.product_id, command.reservation_id)
    return [
        events.ReservationCommitted(
            product_id=command.product_id,
            reservation_id=command.reservation_id,
            quantity=held.quantity,
        )
    ]


def release(command: commands.ReleaseReservation, item: StockItem) -> list[StockEvent]:
    held = item.reservations.get(command.reservation_id)
    if held is None:
        return []
    return [
        events.ReservationReleased(
            product_id=command.product_id,
            reservation_id=command.reservation_id,
            quantity=held.quantity,
        )
    ]


def expire(product_id: str, item: StockItem, now: datetime) -> list[StockEvent]:
    # Most commands come while nothing has run out: they must not pay for a look at every hold.
    if item.first_expiry is None or item.first_expiry > now:
        return []
    return [
        events.ReservationExpired(
            product_id=product_id, reservation_id=reservation_id, quantity=held.quantity
        )
        for reservation_id, held in item.reservations.items()
        if held.expires_at <= now
    ]


def evolve(item: StockItem, event: StockEvent) -> StockItem:
    match event:
        case events.StockReceived():
            return replace(
                item,
                on_hand=item.on_hand + event.quantity,
                references=item.references | {event.reference},
            )
        case events.StockReserved():
            return hold(item, event)
        case events.ReservationCommitted():
            sold = replace(item, on_hand=item.on_hand - event.quantity)
            return without(sold, event.reservation_id)
        case events.ReservationReleased() | events.ReservationExpired():
            return without(item, event.reservation_id)
        case _:
            assert_never(event)


def hold(item: StockItem, event: events.StockReserved) -> StockItem:
    reservation = Reservation(event.quantity, event.expires_at)
    first = item.first_expiry
    return replace(
        item,
        held=item.held + event.quantity,
        reservations={**item.reservations, event.reservation_id: reservation},
        first_expiry=event.expires_at if first is None else min(first, event.expires_at),
    )


def without(item: StockItem, reservation_id: str) -> StockItem:
    """The item after a reservation has ended."""
    rest = dict(item.reservations)
    ended = rest.pop(reservation_id)
    first = item.first_expiry
    if first == ended.expires_at:
        first = min((held.expires_at for held in rest.values()), default=None)
    return replace(item, held=item.held - ended.quantity, reservations=rest, first_expiry=first)


def stock_stream(product_id: str) -> str:
    return f"stock:{product_id}"


STOCK = Decider(
    prefix="stock",
    stream=lambda command: stock_stream(command.product_id),
    initial=StockItem(),
    decide=decide,
    evolve=evolve,
)
