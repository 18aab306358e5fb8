"""An order as its events have made it: what is shipped, returned, captured and refunded."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.commerce.order import events
from domain.commerce.order.events import OrderEvent, OrderLine, ReturnedItem
from domain.shared.money import Money, total

REFUND_OF_CANCEL = "cancel"
"""The id of the refund that a cancelled order is owed."""

OrderStatus = Literal[
    "none", "pending", "confirmed", "rejected", "cancelled", "shipped", "delivered", "returned"
]
PaymentStatus = Literal[
    "pending", "authorised", "captured", "refunded", "capture_failed", "refund_failed"
]
RefundStatus = Literal["due", "asked", "accepted", "done", "failed"]


class Refund(Struct, frozen=True, kw_only=True):
    """`retry_at` is when to ask again, `settles_at` when a word was first due once accepted."""

    amount: Money
    status: RefundStatus = "due"
    key: str = ""
    psp_reference: str = ""
    tries: int = 0
    retry_at: datetime | None = None
    settles_at: datetime | None = None


class Order(Struct, frozen=True):
    """`restock_due` holds, by reference, what came back and is not yet counted as stock again."""

    order_id: str = ""
    checkout_id: str = ""
    member_id: str = ""
    seller_id: str = ""
    psp_reference: str = ""
    status: OrderStatus = "none"
    lines: tuple[OrderLine, ...] = ()
    total: Money = Money("", 0)
    captured: Money = Money("", 0)
    capture_failed: bool = False
    cancel_requested: bool = False
    returned: Mapping[str, int] = {}
    refunds: Mapping[str, Refund] = {}
    restock_due: Mapping[str, tuple[ReturnedItem, ...]] = {}

    @property
    def refunded(self) -> Money:
        return self._sum({"done"})

    @property
    def refundable(self) -> Money:
        """What is captured and neither refunded nor about to be; a failed refund frees nothing."""
        return self.captured - self._sum({"due", "asked", "accepted", "done", "failed"})

    def _sum(self, statuses: set[str]) -> Money:
        amounts = [r.amount for r in self.refunds.values() if r.status in statuses]
        return total([self.captured.nothing, *amounts])

    @property
    def payment_status(self) -> PaymentStatus:
        if any(refund.status == "failed" for refund in self.refunds.values()):
            return "refund_failed"
        if self.capture_failed:
            return "capture_failed"
        if self.captured.value == 0:
            return "authorised" if self.psp_reference else "pending"
        return "refunded" if self.captured <= self.refunded else "captured"


def evolve(order: Order, event: OrderEvent) -> Order:  # noqa: C901, PLR0911, PLR0912
    match event:
        case events.OrderCreated():
            return created(event)
        case events.OrderConfirmed():
            return replace(order, status="confirmed", captured=event.captured)
        case events.OrderRejected():
            return replace(order, status="rejected")
        case events.CancelRequested():
            return replace(order, cancel_requested=True)
        case events.OrderCancelled():
            return with_refund(ended(order), REFUND_OF_CANCEL, event.refund)
        case events.OrderShipped():
            return replace(order, status="shipped")
        case events.OrderDelivered():
            return replace(order, status="delivered")
        case events.ItemsReturned():
            return with_refund(took_back(order, event), event.return_id, event.refund)
        case events.ItemsRestocked():
            due = {k: v for k, v in order.restock_due.items() if k != event.reference}
            return replace(order, restock_due=due)
        case events.CaptureReversed():
            return untaken(order, final=event.final)
        case events.CaptureRepeated():
            again = replace(order, captured=event.captured, capture_failed=False)
            return with_refund(again, REFUND_OF_CANCEL, event.refund)
        case events.RefundAsked():
            return change_refund(order, event.refund_id, status="asked", key=event.key)
        case events.RefundUnanswered():
            tries = order.refunds[event.refund_id].tries + 1
            return change_refund(order, event.refund_id, tries=tries, retry_at=event.retry_at)
        case events.RefundAccepted():
            return change_refund(
                order,
                event.refund_id,
                status="accepted",
                psp_reference=event.psp_reference,
                tries=0,
                retry_at=event.settles_at,
                settles_at=event.settles_at,
            )
        case events.RefundUnconfirmed():
            tries = order.refunds[event.refund_id].tries + 1
            return change_refund(order, event.refund_id, tries=tries, retry_at=event.retry_at)
        case events.OrderRefunded():
            return change_refund(
                order, event.refund_id, status="done", psp_reference=event.psp_reference
            )
        case events.RefundFailed():
            return change_refund(order, event.refund_id, status="failed")
        case _:
            assert_never(event)


def created(event: events.OrderCreated) -> Order:
    return Order(
        order_id=event.order_id,
        checkout_id=event.checkout_id,
        member_id=event.member_id,
        seller_id=event.seller_id,
        psp_reference=event.psp_reference,
        status="pending",
        lines=event.lines,
        total=event.total,
        captured=event.total.nothing,
    )


def ended(order: Order) -> Order:
    """The order cancelled, and all of its units to be put back on the shelf."""
    items = tuple(
        ReturnedItem(product_id=line.product_id, quantity=line.quantity) for line in order.lines
    )
    return replace(order, status="cancelled", restock_due={f"{order.order_id}:cancel": items})


def took_back(order: Order, event: events.ItemsReturned) -> Order:
    returned = dict(order.returned)
    for item in event.items:
        returned[item.product_id] = returned.get(item.product_id, 0) + item.quantity
    return replace(
        order,
        status="returned" if event.complete else order.status,
        returned=returned,
        restock_due={**order.restock_due, f"{order.order_id}:{event.return_id}": event.items},
    )


def untaken(order: Order, *, final: bool) -> Order:
    """Nothing goes back of what was never taken; what was asked already may have, and what is due
    for returned units waits for the money to be taken again."""
    refunds = order.refunds
    if order.status == "cancelled":
        refunds = {id_: refund for id_, refund in refunds.items() if refund.status != "due"}
    nothing = order.total.nothing
    return replace(order, captured=nothing, capture_failed=final, refunds=refunds)


def with_refund(order: Order, refund_id: str, amount: Money | None) -> Order:
    if amount is None or amount.value == 0:
        return order
    return replace(order, refunds={**order.refunds, refund_id: Refund(amount=amount)})


def change_refund(order: Order, refund_id: str, **changes: object) -> Order:
    changed = replace(order.refunds[refund_id], **changes)
    return replace(order, refunds={**order.refunds, refund_id: changed})
