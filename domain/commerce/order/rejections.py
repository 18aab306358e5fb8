"""Why an order command may be refused."""

from dataclasses import dataclass

from domain.shared.rejection import Conflict, Forbidden, NotFound


@dataclass(eq=False)
class OrderUnknown(NotFound):
    """There is none, or it is somebody else's, which is the same to whoever asks."""

    title = "There is no such order"
    order_id: str


@dataclass(eq=False)
class NotTheSellersOrder(Forbidden):
    title = "Only the seller may do this"
    order_id: str


@dataclass(eq=False)
class NotTheBuyersOrder(Forbidden):
    title = "Only the buyer may do this"
    order_id: str


@dataclass(eq=False)
class OrderNotReady(Conflict):
    """The order's status does not allow it, now or ever."""

    title = "The order's status does not allow this"
    order_id: str
    order_status: str


@dataclass(eq=False)
class MoreThanBought(Conflict):
    title = "More units than were bought and not yet returned"
    product_id: str
    requested: int
    returnable: int


@dataclass(eq=False)
class OrderMovedOn(Conflict):
    """What was to be recorded is recorded already, or no longer possible."""

    title = "The order has moved on"
    order_id: str
