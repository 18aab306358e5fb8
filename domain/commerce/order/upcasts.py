"""Order events of earlier versions, and what they mean today."""

from typing import ClassVar

from msgspec import Struct

from domain.commerce.order.events import OrderCreated, OrderLine
from domain.shared.message import Event
from domain.shared.money import Money


class OrderLineV1(Struct, frozen=True, kw_only=True):
    """Written when a line repeated what the seller calls its product."""

    product_id: str
    title: str
    quantity: int
    price: Money
    source_post_id: str | None = None


class OrderCreatedV1(Event, frozen=True, kw_only=True, tag="order.created.v1"):
    ordered_by: ClassVar[str] = "order_id"
    order_id: str
    checkout_id: str
    member_id: str
    shop_id: str
    seller_id: str
    lines: tuple[OrderLineV1, ...]
    total: Money
    psp_reference: str


def order_created(old: OrderCreatedV1) -> OrderCreated:
    return OrderCreated(
        order_id=old.order_id,
        checkout_id=old.checkout_id,
        member_id=old.member_id,
        shop_id=old.shop_id,
        seller_id=old.seller_id,
        lines=tuple(map(order_line, old.lines)),
        total=old.total,
        psp_reference=old.psp_reference,
    )


def order_line(old: OrderLineV1) -> OrderLine:
    return OrderLine(
        product_id=old.product_id,
        quantity=old.quantity,
        price=old.price,
        source_post_id=old.source_post_id,
    )


OldOrderEvent = OrderCreatedV1
