"""Why a stock command may be refused."""

from dataclasses import dataclass

from domain.shared.rejection import Conflict


@dataclass(eq=False)
class OutOfStock(Conflict):
    title = "Not enough units are available"
    product_id: str
    requested: int
    available: int


@dataclass(eq=False)
class ReservationNotHeld(Conflict):
    title = "The reservation was never made, or has ended"
    product_id: str
    reservation_id: str


@dataclass(eq=False)
class ReservationIdTaken(Conflict):
    title = "The reservation id is in use for another quantity"
    reservation_id: str
    held: int
