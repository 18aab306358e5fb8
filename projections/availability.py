"""How many units of each product can be bought, now and as of every position.

A committed reservation lowers what is on hand, and not what can be bought: its units left that
number when they were reserved.
"""

from collections.abc import Sequence
from typing import assert_never, get_args

from domain.commerce.stock import events
from domain.shared.identifiers import id_number
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.ports.log import Recorded
from infra.ports.tables import Add, Change, Column, CountTable, Insert, Table
from infra.runtime.projecting.projection import Projection

Handled = events.StockEvent

AVAILABILITY = CountTable(
    name="availability",
    key="product_id",
    counts=("available", "on_hand"),
    touches=(("products", "product_id"),),
    stream="stock:",
)

AVAILABILITY_MOVES = Table(
    name="availability_moves",
    columns=(Column("product_id", "bigint"), Column("units", "bigint")),
    primary_key=("since",),
    indexes=("(product_id, since)",),
)


def fold(recorded: Recorded) -> Sequence[Change]:
    event: Handled = recorded.event  # type: ignore[assignment]
    product_id = id_number(event.product_id)
    available, on_hand = deltas(event)
    changes: list[Change] = [Add(AVAILABILITY, product_id, (available, on_hand))]
    if available:
        changes.append(Insert(AVAILABILITY_MOVES, (product_id, available)))
    return changes


def deltas(event: Handled) -> tuple[int, int]:
    match event:
        case events.StockReceived():
            return event.quantity, event.quantity
        case events.StockReserved():
            return -event.quantity, 0
        case events.ReservationCommitted():
            return 0, -event.quantity
        case events.ReservationReleased() | events.ReservationExpired():
            return event.quantity, 0
        case _:
            assert_never(event)


PROJECTION = Projection(
    name="availability",
    version=1,
    handles=frozenset(get_args(Handled)),
    tables=(AVAILABILITY, AVAILABILITY_MOVES),
    fold=fold,
    partitions=COMMERCE_PARTITIONS,
)
