"""What can have happened to a product's stock."""

from datetime import datetime
from typing import ClassVar

from domain.shared.message import Event


class StockReceived(Event, frozen=True, kw_only=True, tag="stock.received.v1"):
    """`reference` names the delivery: one that came before is not counted again."""

    ordered_by: ClassVar[str] = "product_id"
    product_id: str
    quantity: int
    reference: str


class StockReserved(Event, frozen=True, kw_only=True, tag="stock.reserved.v1"):
    ordered_by: ClassVar[str] = "product_id"
    product_id: str
    reservation_id: str
    quantity: int
    expires_at: datetime


class ReservationCommitted(Event, frozen=True, kw_only=True, tag="stock.reservation_committed.v1"):
    ordered_by: ClassVar[str] = "product_id"
    product_id: str
    reservation_id: str
    quantity: int


class ReservationReleased(Event, frozen=True, kw_only=True, tag="stock.reservation_released.v1"):
    ordered_by: ClassVar[str] = "product_id"
    product_id: str
    reservation_id: str
    quantity: int


class ReservationExpired(Event, frozen=True, kw_only=True, tag="stock.reservation_expired.v1"):
    ordered_by: ClassVar[str] = "product_id"
    product_id: str
    reservation_id: str
    quantity: int


StockEvent = (
    StockReceived | StockReserved | ReservationCommitted | ReservationReleased | ReservationExpired
)
