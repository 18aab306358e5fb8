"""An order of one shop: created when its payment is authorised, confirmed when it is captured.

What is refunded, or on the way to be, never exceeds what is captured; a unit is returned once.
"""

from datetime import datetime
from typing import assert_never

from domain.commerce.order import commands, events
from domain.commerce.order.commands import OrderCommand
from domain.commerce.order.events import OrderEvent, ReturnedItem
from domain.commerce.order.rejections import (
    MoreThanBought,
    NotTheBuyersOrder,
    NotTheSellersOrder,
    OrderMovedOn,
    OrderNotReady,
    OrderUnknown,
)
from domain.commerce.order.state import Order, evolve
from domain.shared.decider import Decider
from domain.shared.money import Money, total
from domain.shared.personal import Personal
from domain.shared.rejection import Invalid
from domain.shared.values import check_text

REASON_LENGTH_MAX = 500
CARRIER_LENGTH_MAX = 100


def decide(  # noqa: C901, PLR0911, PLR0912
    command: OrderCommand, order: Order, _now: datetime
) -> list[OrderEvent]:
    match command:
        case commands.CreateOrder():
            return create(command, order)
        case commands.ConfirmOrder():
            return confirm(order)
        case commands.RejectOrder():
            return reject(command, order)
        case commands.CancelOrder():
            return cancel(command, order)
        case commands.ShipOrder():
            return ship(command, order)
        case commands.DeliverOrder():
            return deliver(command, order)
        case commands.ReturnItems():
            return return_items(command, order)
        case commands.RecordRestocked():
            return restocked(command, order)
        case commands.RecordCaptureReversed():
            return capture_reversed(command, order)
        case commands.RecordCaptureRepeated():
            return capture_repeated(order)
        case commands.AskRefund():
            return ask_refund(command, order)
        case commands.RecordRefundUnanswered():
            return refund_unanswered(command, order)
        case commands.RecordRefundAccepted():
            return refund_accepted(command, order)
        case commands.RecordRefundUnconfirmed():
            return refund_unconfirmed(command, order)
        case commands.RecordRefunded():
            return refunded(command, order)
        case commands.RecordRefundFailed():
            return refund_failed(command, order)
        case _:
            assert_never(command)


def create(command: commands.CreateOrder, order: Order) -> list[OrderEvent]:
    if order.status != "none":
        return []
    return [
        events.OrderCreated(
            order_id=command.order_id,
            checkout_id=command.checkout_id,
            member_id=command.member_id,
            shop_id=command.shop_id,
            seller_id=command.seller_id,
            lines=command.lines,
            total=total(line.price * line.quantity for line in command.lines),
            psp_reference=command.psp_reference,
        )
    ]


def confirm(order: Order) -> list[OrderEvent]:
    if order.status != "pending":
        return []
    confirmed = events.OrderConfirmed(
        order_id=order.order_id, member_id=order.member_id, captured=order.total
    )
    if order.cancel_requested:
        return [confirmed, *cancelled(order, "buyer", refund=order.total)]
    return [confirmed]


def reject(command: commands.RejectOrder, order: Order) -> list[OrderEvent]:
    if order.status != "pending":
        return []
    return [
        events.OrderRejected(
            order_id=order.order_id, member_id=order.member_id, because_of=command.because_of
        )
    ]


def cancel(command: commands.CancelOrder, order: Order) -> list[OrderEvent]:
    require_buyer(command.order_id, command.member_id, order)
    match order.status:
        case "pending":
            if order.cancel_requested:
                return []
            return [events.CancelRequested(order_id=order.order_id)]
        case "confirmed":
            return cancelled(order, "buyer", refund=order.refundable)
        case "cancelled":
            return []
        case _:
            raise OrderNotReady(order.order_id, order.status)


def cancelled(order: Order, because_of: str, refund: Money) -> list[OrderEvent]:
    return [
        events.OrderCancelled(
            order_id=order.order_id,
            member_id=order.member_id,
            because_of=because_of,
            refund=refund if refund.value > 0 else None,
        )
    ]


def ship(command: commands.ShipOrder, order: Order) -> list[OrderEvent]:
    require_seller(command.order_id, command.member_id, order)
    check_text(command.carrier, "/carrier", length_min=1, length_max=CARRIER_LENGTH_MAX)
    number = command.tracking_number
    check_text(number, "/trackingNumber", length_min=1, length_max=CARRIER_LENGTH_MAX)
    if order.status != "confirmed":
        raise OrderNotReady(order.order_id, order.status)
    return [
        events.OrderShipped(
            order_id=order.order_id,
            member_id=order.member_id,
            carrier=command.carrier,
            tracking_number=number,
        )
    ]


def deliver(command: commands.DeliverOrder, order: Order) -> list[OrderEvent]:
    require_seller(command.order_id, command.member_id, order)
    if order.status in {"delivered", "returned"}:
        return []
    if order.status != "shipped":
        raise OrderNotReady(order.order_id, order.status)
    return [events.OrderDelivered(order_id=order.order_id, member_id=order.member_id)]


def return_items(command: commands.ReturnItems, order: Order) -> list[OrderEvent]:
    require_buyer(command.order_id, command.member_id, order)
    check_text(command.reason, "/reason", length_min=1, length_max=REASON_LENGTH_MAX)
    if not command.items:
        raise Invalid("/items", "must name at least one product")
    if len({item.product_id for item in command.items}) != len(command.items):
        raise Invalid("/items", "must name a product once")
    if order.status not in {"delivered", "returned"}:
        raise OrderNotReady(order.order_id, order.status)
    for index, item in enumerate(command.items):
        require_returnable(item, index, order)
    price = {line.product_id: line.price for line in order.lines}
    refund = total(price[item.product_id] * item.quantity for item in command.items)
    back = sum(order.returned.values()) + sum(item.quantity for item in command.items)
    return [
        events.ItemsReturned(
            order_id=order.order_id,
            member_id=order.member_id,
            return_id=command.return_id,
            items=command.items,
            reason=Personal(command.reason),
            refund=min(refund, order.refundable, key=lambda amount: amount.value),
            complete=back == sum(line.quantity for line in order.lines),
        )
    ]


def require_returnable(item: ReturnedItem, index: int, order: Order) -> None:
    if item.quantity < 1:
        raise Invalid(f"/items/{index}/quantity", "must be 1 or more")
    bought = sum(line.quantity for line in order.lines if line.product_id == item.product_id)
    returnable = bought - order.returned.get(item.product_id, 0)
    if item.quantity > returnable:
        raise MoreThanBought(item.product_id, item.quantity, returnable)


def restocked(command: commands.RecordRestocked, order: Order) -> list[OrderEvent]:
    """Refused where it is done already: the units are counted in the same append."""
    if command.reference not in order.restock_due:
        raise OrderMovedOn(order.order_id)
    return [events.ItemsRestocked(order_id=order.order_id, reference=command.reference)]


def capture_reversed(command: commands.RecordCaptureReversed, order: Order) -> list[OrderEvent]:
    if order.status in {"none", "pending", "rejected"} or order.capture_failed:
        return []
    if order.captured.value == 0 and not command.final:
        return []
    found = [events.CaptureReversed(order_id=order.order_id, final=command.final)]
    if command.final and order.status == "confirmed":
        return [*found, *cancelled(order, "capture_failed", refund=order.captured.nothing)]
    return [*found]


def capture_repeated(order: Order) -> list[OrderEvent]:
    if order.captured.value or order.status in {"none", "pending", "rejected"}:
        return []
    return [
        events.CaptureRepeated(
            order_id=order.order_id,
            captured=order.total,
            refund=order.total if order.status == "cancelled" else None,
        )
    ]


def ask_refund(command: commands.AskRefund, order: Order) -> list[OrderEvent]:
    refund = order.refunds.get(command.refund_id)
    if refund is None or refund.status != "due" or order.captured.value == 0:
        return []
    return [
        events.RefundAsked(
            order_id=order.order_id,
            refund_id=command.refund_id,
            amount=refund.amount,
            key=refund_key(order.order_id, command.refund_id),
        )
    ]


def refund_key(order_id: str, refund_id: str) -> str:
    return f"{order_id}:refund:{refund_id}:1"


def refund_unanswered(command: commands.RecordRefundUnanswered, order: Order) -> list[OrderEvent]:
    refund = order.refunds.get(command.refund_id)
    if refund is None or refund.status != "asked":
        return []
    return [
        events.RefundUnanswered(
            order_id=order.order_id,
            refund_id=command.refund_id,
            reason=command.reason,
            retry_at=command.retry_at,
        )
    ]


def refund_accepted(command: commands.RecordRefundAccepted, order: Order) -> list[OrderEvent]:
    refund = order.refunds.get(command.refund_id)
    if refund is None or refund.status != "asked":
        return []
    return [
        events.RefundAccepted(
            order_id=order.order_id,
            refund_id=command.refund_id,
            psp_reference=command.psp_reference,
            settles_at=command.settles_at,
        )
    ]


def refund_unconfirmed(command: commands.RecordRefundUnconfirmed, order: Order) -> list[OrderEvent]:
    refund = order.refunds.get(command.refund_id)
    if refund is None or refund.status != "accepted":
        return []
    return [
        events.RefundUnconfirmed(
            order_id=order.order_id,
            refund_id=command.refund_id,
            said=command.said,
            retry_at=command.retry_at,
        )
    ]


def refunded(command: commands.RecordRefunded, order: Order) -> list[OrderEvent]:
    refund_id = found_refund(command.refund_id, command.psp_reference, order)
    refund = order.refunds.get(refund_id)
    if refund is None or refund.status not in {"asked", "accepted"}:
        return []
    return [
        events.OrderRefunded(
            order_id=order.order_id,
            refund_id=refund_id,
            amount=refund.amount,
            psp_reference=command.psp_reference,
        )
    ]


def refund_failed(command: commands.RecordRefundFailed, order: Order) -> list[OrderEvent]:
    """A failure is final, also after a success: the provider has taken its word back."""
    refund_id = found_refund(command.refund_id, command.psp_reference, order)
    refund = order.refunds.get(refund_id)
    if refund is None or refund.status in {"due", "failed"}:
        return []
    return [
        events.RefundFailed(
            order_id=order.order_id,
            refund_id=refund_id,
            reason=command.reason,
            psp_reference=command.psp_reference,
        )
    ]


def found_refund(refund_id: str, psp_reference: str, order: Order) -> str:
    if refund_id in order.refunds:
        return refund_id
    found = (id_ for id_, r in order.refunds.items() if r.psp_reference == psp_reference)
    return next(found, "") if psp_reference else ""


def require_buyer(order_id: str, member_id: str, order: Order) -> None:
    require_party(order_id, member_id, order)
    if order.member_id != member_id:
        raise NotTheBuyersOrder(order_id)


def require_seller(order_id: str, member_id: str, order: Order) -> None:
    require_party(order_id, member_id, order)
    if order.seller_id != member_id:
        raise NotTheSellersOrder(order_id)


def require_party(order_id: str, member_id: str, order: Order) -> None:
    if order.status == "none" or member_id not in {order.member_id, order.seller_id}:
        raise OrderUnknown(order_id)


def order_stream(order_id: str) -> str:
    return f"order:{order_id}"


ORDER = Decider(
    prefix="order",
    stream=lambda command: order_stream(command.order_id),
    initial=Order(),
    decide=decide,
    evolve=evolve,
)
