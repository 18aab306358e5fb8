"""When units that are held are given back: at the time at which the hold was made to end.

| what happened to a hold | its timer |
| --- | --- |
| reserved | set to the time at which it expires |
| committed, released, expired | cleared |
| (the time has come) | everything of that product that has run out is given back |
"""

from datetime import datetime
from typing import NamedTuple

from domain.commerce.stock.commands import ExpireReservations
from domain.commerce.stock.events import (
    ReservationCommitted,
    ReservationExpired,
    ReservationReleased,
    StockReserved,
)
from domain.shared.message import Command

Handled = StockReserved | ReservationCommitted | ReservationReleased | ReservationExpired

NAME = "holds"


class Hold(NamedTuple):
    product_id: str
    reservation_id: str


def timer(event: Handled) -> tuple[Hold, datetime | None]:
    """Which timer an event moves, and to when; None clears it."""
    hold = Hold(event.product_id, event.reservation_id)
    return hold, event.expires_at if isinstance(event, StockReserved) else None


def due(hold: Hold) -> Command:
    return ExpireReservations(product_id=hold.product_id)
