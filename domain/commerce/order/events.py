"""What can have happened to an order. Money in an event is what was decided, never looked up."""

from datetime import datetime
from typing import ClassVar

from msgspec import Struct

from domain.shared.message import Event
from domain.shared.money import Money
from domain.shared.personal import Personal


class OrderLine(Struct, frozen=True, kw_only=True):
    """`price` is that of one unit. What it is called is the seller's to say, and to erase."""

    product_id: str
    quantity: int
    price: Money
    source_post_id: str | None = None


class ReturnedItem(Struct, frozen=True, kw_only=True):
    product_id: str
    quantity: int


class OrderCreated(Event, frozen=True, kw_only=True, tag="order.created.v2"):
    """The payment of `total` is authorised under `psp_reference`, together with other orders'."""

    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    checkout_id: str
    member_id: str
    shop_id: str
    seller_id: str
    lines: tuple[OrderLine, ...]
    total: Money
    psp_reference: str


class OrderConfirmed(Event, frozen=True, kw_only=True, tag="order.confirmed.v1"):
    """The payment is captured."""

    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    member_id: str
    captured: Money


class OrderRejected(Event, frozen=True, kw_only=True, tag="order.rejected.v1"):
    """The checkout came to nothing after the order was made."""

    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    member_id: str
    because_of: str


class CancelRequested(Event, frozen=True, kw_only=True, tag="order.cancel_requested.v1"):
    """The buyer no longer wants it; it is cancelled once its payment, under way, has ended."""

    ordered_by: ClassVar[str] = "order_id"
    order_id: str


class OrderCancelled(Event, frozen=True, kw_only=True, tag="order.cancelled.v1"):
    """`because_of` is `buyer` or `capture_failed`; `refund` is what goes back, if anything."""

    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    member_id: str
    because_of: str
    refund: Money | None = None


class OrderShipped(Event, frozen=True, kw_only=True, tag="order.shipped.v1"):
    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    member_id: str
    carrier: str
    tracking_number: str


class OrderDelivered(Event, frozen=True, kw_only=True, tag="order.delivered.v1"):
    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    member_id: str


class ItemsReturned(Event, frozen=True, kw_only=True, tag="order.items_returned.v1"):
    """`complete`: with these, every unit of the order is back."""

    ordered_by: ClassVar[str] = "order_id"
    about: ClassVar[str] = "member_id"
    order_id: str
    member_id: str
    return_id: str
    items: tuple[ReturnedItem, ...]
    reason: Personal[str]
    refund: Money
    complete: bool


class ItemsRestocked(Event, frozen=True, kw_only=True, tag="order.items_restocked.v1"):
    """What came back under `reference` counts as stock again."""

    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    reference: str


class CaptureReversed(Event, frozen=True, kw_only=True, tag="order.capture_reversed.v1"):
    """The provider took the captured money back; `final`: it will not be tried again."""

    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    final: bool


class CaptureRepeated(Event, frozen=True, kw_only=True, tag="order.capture_repeated.v1"):
    """The second attempt to capture succeeded; `refund` goes back where the order is cancelled."""

    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    captured: Money
    refund: Money | None = None


class RefundAsked(Event, frozen=True, kw_only=True, tag="order.refund_asked.v1"):
    """Stored before the provider is asked, so that the same key is used after a crash."""

    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    refund_id: str
    amount: Money
    key: str


class RefundUnanswered(Event, frozen=True, kw_only=True, tag="order.refund_unanswered.v1"):
    """Nobody knows whether it was done: asked again under the same key at `retry_at`."""

    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    refund_id: str
    reason: str
    retry_at: datetime


class RefundAccepted(Event, frozen=True, kw_only=True, tag="order.refund_accepted.v1"):
    """The provider will do it and say so; without a word by `settles_at` it is asked again."""

    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    refund_id: str
    psp_reference: str
    settles_at: datetime


class RefundUnconfirmed(Event, frozen=True, kw_only=True, tag="order.refund_unconfirmed.v1"):
    """An accepted refund stays without a word. It was asked again under its key, to which the
    provider `said` this. Only a notification decides; asked again at `retry_at`."""

    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    refund_id: str
    said: str
    retry_at: datetime


class OrderRefunded(Event, frozen=True, kw_only=True, tag="order.refunded.v1"):
    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    refund_id: str
    amount: Money
    psp_reference: str


class RefundFailed(Event, frozen=True, kw_only=True, tag="order.refund_failed.v1"):
    """An operator has to look at it: the buyer's money did not go back."""

    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    refund_id: str
    reason: str
    psp_reference: str = ""


OrderEvent = (
    OrderCreated
    | OrderConfirmed
    | OrderRejected
    | CancelRequested
    | OrderCancelled
    | OrderShipped
    | OrderDelivered
    | ItemsReturned
    | ItemsRestocked
    | CaptureReversed
    | CaptureRepeated
    | RefundAsked
    | RefundUnanswered
    | RefundAccepted
    | RefundUnconfirmed
    | OrderRefunded
    | RefundFailed
)
