"""Checkout events of earlier versions, and what they mean today."""

from datetime import datetime
from typing import ClassVar

from msgspec import Struct

from domain.commerce.checkout.events import CheckoutOrder, CheckoutStarted
from domain.commerce.order.upcasts import OrderLineV1, order_line
from domain.shared.message import Event
from domain.shared.money import Money
from domain.shared.personal import Personal


class CheckoutOrderV1(Struct, frozen=True, kw_only=True):
    order_id: str
    shop_id: str
    seller_id: str
    lines: tuple[OrderLineV1, ...]


class CheckoutStartedV1(Event, frozen=True, kw_only=True, tag="checkout.started.v1"):
    """Written when a line repeated what the seller calls its product."""

    ordered_by: ClassVar[str] = "checkout_id"
    about: ClassVar[str] = "member_id"
    checkout_id: str
    member_id: str
    orders: tuple[CheckoutOrderV1, ...]
    total: Money
    shipping_address: Personal[str]
    hold_seconds: int
    deadline: datetime


def checkout_started(old: CheckoutStartedV1) -> CheckoutStarted:
    return CheckoutStarted(
        checkout_id=old.checkout_id,
        member_id=old.member_id,
        orders=tuple(map(checkout_order, old.orders)),
        total=old.total,
        shipping_address=old.shipping_address,
        hold_seconds=old.hold_seconds,
        deadline=old.deadline,
    )


def checkout_order(old: CheckoutOrderV1) -> CheckoutOrder:
    return CheckoutOrder(
        order_id=old.order_id,
        shop_id=old.shop_id,
        seller_id=old.seller_id,
        lines=tuple(map(order_line, old.lines)),
    )


OldCheckoutEvent = CheckoutStartedV1
