"""What can be asked of a product's stock."""

from datetime import datetime

from domain.shared.message import Command


class ReceiveStock(Command, frozen=True, kw_only=True):
    product_id: str
    quantity: int
    reference: str


class ReserveStock(Command, frozen=True, kw_only=True):
    """The id is chosen by the caller, so that a repeated command is the same reservation."""

    product_id: str
    reservation_id: str
    quantity: int
    expires_at: datetime


class CommitReservation(Command, frozen=True, kw_only=True):
    product_id: str
    reservation_id: str


class ReleaseReservation(Command, frozen=True, kw_only=True):
    product_id: str
    reservation_id: str


class ExpireReservations(Command, frozen=True, kw_only=True):
    """Give back whatever has run out."""

    product_id: str


StockCommand = (
    ReceiveStock | ReserveStock | CommitReservation | ReleaseReservation | ExpireReservations
)
