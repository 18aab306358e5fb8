"""Cancel orders and send items back, as their buyer; ship and deliver them, as their seller."""

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.routing import Route

from command_api.endpoint import Asked, Desk, Handle, Plan
from command_api.market import Market
from command_api.named_ids import NamedId, require_id
from command_api.texts import WITHOUT_NUL
from command_api.whole_numbers import WholeNumbers
from domain.commerce.cart.decider import LINES_MAX
from domain.commerce.order.commands import CancelOrder, DeliverOrder, ReturnItems, ShipOrder
from domain.commerce.order.decider import CARRIER_LENGTH_MAX, REASON_LENGTH_MAX
from domain.commerce.order.events import ReturnedItem
from domain.commerce.stock.decider import QUANTITY_MAX
from infra.http.openapi import Operation

TAG = "Orders"
ONE = "/api/orders/{orderId}"

Words = Annotated[str, Meta(min_length=1, max_length=CARRIER_LENGTH_MAX, pattern=WITHOUT_NUL)]


class Item(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    product_id: NamedId
    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]


class Returning(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    items: Annotated[tuple[Item, ...], Meta(min_length=1, max_length=LINES_MAX)]
    reason: Annotated[str, Meta(min_length=1, max_length=REASON_LENGTH_MAX, pattern=WITHOUT_NUL)]


class Shipping(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    carrier: Words
    tracking_number: Words


class OrderReference(Struct, frozen=True, rename="camel"):
    order_id: str


class Returned(Struct, frozen=True, rename="camel"):
    return_id: str
    order_id: str


def routes(desk: Desk, market: Market) -> list[Route]:
    async def cancel(asked: Asked[None]) -> Plan:
        order_id = asked.id_in_path("orderId")
        command = CancelOrder(order_id=order_id, member_id=asked.member_id)
        return Plan(lambda _: OrderReference(order_id), commands=(command,))

    async def give_back(asked: Asked[Returning]) -> Plan:
        order_id, return_id = asked.id_in_path("orderId"), market.new_id()
        for index, item in enumerate(asked.body.items):
            require_id(item.product_id, "product", f"/items/{index}/productId")
        command = ReturnItems(
            order_id=order_id,
            member_id=asked.member_id,
            return_id=return_id,
            items=returned(asked.body.items),
            reason=asked.body.reason,
        )
        return Plan(lambda _: Returned(return_id, order_id), commands=(command,))

    async def ship(asked: Asked[Shipping]) -> Plan:
        order_id = asked.id_in_path("orderId")
        command = ShipOrder(
            order_id=order_id,
            member_id=asked.member_id,
            carrier=asked.body.carrier,
            tracking_number=asked.body.tracking_number,
        )
        return Plan(lambda _: OrderReference(order_id), commands=(command,))

    async def deliver(asked: Asked[None]) -> Plan:
        order_id = asked.id_in_path("orderId")
        command = DeliverOrder(order_id=order_id, member_id=asked.member_id)
        return Plan(lambda _: OrderReference(order_id), commands=(command,))

    return [
        endpoint(
            desk, "cancel", cancel, "Cancel an order before it is shipped", {202: OrderReference}
        ),
        endpoint(
            desk,
            "returns",
            give_back,
            "Send items of a delivered order back",
            {202: Returned},
            body=Returning,
            example={
                "items": [{"productId": "0d1kq3h8o2c7a", "quantity": 1}],
                "reason": "too small",
            },
        ),
        endpoint(
            desk,
            "shipments",
            ship,
            "Say that an order is shipped",
            {201: OrderReference},
            body=Shipping,
            example={"carrier": "DHL", "trackingNumber": "00340434161094042557"},
        ),
        endpoint(
            desk, "delivery", deliver, "Say that an order is delivered", {201: OrderReference}
        ),
    ]


def endpoint(  # noqa: PLR0913
    desk: Desk,
    what: str,
    handle: Handle,
    summary: str,
    answers: dict[int, Any],
    *,
    body: Any = None,
    example: Any = None,
) -> Route:
    operation = Operation(
        summary=summary,
        tag=TAG,
        body=body,
        body_example=example,
        answers=answers,
        refusals=(403, 404),
    )
    return WholeNumbers(desk, "POST", f"{ONE}/{what}", handle, operation=operation).route()


def returned(items: Sequence[Item]) -> tuple[ReturnedItem, ...]:
    return tuple(ReturnedItem(product_id=item.product_id, quantity=item.quantity) for item in items)
