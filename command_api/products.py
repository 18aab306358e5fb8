"""List products, change them, and receive stock of them."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct
from starlette.routing import Route

from command_api.endpoint import Asked, Desk, Endpoint, Plan
from command_api.market import Market, Price, known_product, shop_of
from command_api.texts import WITHOUT_NUL, HttpsUrl
from command_api.whole_numbers import WholeNumbers
from domain.commerce.product.commands import ChangeProduct, ListProduct
from domain.commerce.product.events import Attribute
from domain.commerce.product.rejections import NotTheSeller
from domain.commerce.product.values import (
    ATTRIBUTES_MAX,
    CATEGORY_LENGTH_MAX,
    DESCRIPTION_LENGTH_MAX,
    MEDIA_MAX,
    TITLE_LENGTH_MAX,
)
from domain.commerce.stock.commands import ReceiveStock
from domain.commerce.stock.decider import (
    QUANTITY_MAX,
    REFERENCE_LENGTH_MAX,
    StockItem,
    stock_stream,
)
from domain.commerce.stock.events import ReservationExpired, StockReceived
from domain.shared.message import Command
from infra.http.openapi import Operation
from infra.ports.log import Recorded
from infra.runtime.commands.execute import Look

TAG = "Products"
PATH = "/api/products"
ONE = f"{PATH}/{{productId}}"

Title = Annotated[str, Meta(min_length=1, max_length=TITLE_LENGTH_MAX, pattern=WITHOUT_NUL)]
Description = Annotated[str, Meta(max_length=DESCRIPTION_LENGTH_MAX, pattern=WITHOUT_NUL)]
Category = Annotated[str, Meta(min_length=1, max_length=CATEGORY_LENGTH_MAX, pattern=WITHOUT_NUL)]
Media = Annotated[tuple[HttpsUrl, ...], Meta(max_length=MEDIA_MAX)]
Attributes = Annotated[dict[str, Attribute], Meta(max_length=ATTRIBUTES_MAX)]


class Listing(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    title: Title
    description: Description
    category: Category
    price: Price
    media_urls: Media | None = None
    attributes: Attributes | None = None


class Changes(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What is left out stays. `forSale` false withdraws the product, true offers it again."""

    title: Title | None = None
    description: Description | None = None
    category: Category | None = None
    price: Price | None = None
    media_urls: Media | None = None
    attributes: Attributes | None = None
    for_sale: bool | None = None


class Delivery(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The same `reference` counts once."""

    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
    reference: Annotated[
        str, Meta(min_length=1, max_length=REFERENCE_LENGTH_MAX, pattern=WITHOUT_NUL)
    ]


class Listed(Struct, frozen=True, rename="camel"):
    product_id: str


class OnHand(Struct, frozen=True, rename="camel"):
    on_hand: int
    available: int


def routes(desk: Desk, market: Market) -> list[Route]:
    return [listing(desk, market).route(), changing(desk).route(), receiving(desk).route()]


def listing(desk: Desk, market: Market) -> Endpoint:
    async def list_product(asked: Asked[Listing]) -> Plan:
        body, product_id = asked.body, market.new_id()

        async def prepare(look: Look) -> Sequence[Command]:
            return (
                ListProduct(
                    product_id=product_id,
                    shop_id=await shop_of(look, asked.member_id),
                    seller_id=asked.member_id,
                    title=body.title,
                    description=body.description,
                    category=body.category,
                    price=body.price.money(),
                    media_urls=body.media_urls or (),
                    attributes=body.attributes or {},
                ),
            )

        return Plan(lambda _: Listed(product_id), prepare=prepare)

    operation = Operation(
        summary="List a product",
        tag=TAG,
        body=Listing,
        body_example={
            "title": "Mug",
            "description": "Holds tea.",
            "category": "Kitchen",
            "price": {"currency": "EUR", "value": 1999},
        },
        answers={201: Listed},
        answer_example={"productId": "0d1kq3h8o2c7a"},
        refusals=(403,),
    )
    return WholeNumbers(desk, "POST", PATH, list_product, operation=operation)


def changing(desk: Desk) -> Endpoint:
    async def change(asked: Asked[Changes]) -> Plan:
        body, product_id = asked.body, asked.id_in_path("productId")
        command = ChangeProduct(
            product_id=product_id,
            seller_id=asked.member_id,
            title=body.title,
            description=body.description,
            category=body.category,
            price=body.price.money() if body.price else None,
            media_urls=body.media_urls,
            attributes=body.attributes,
            for_sale=body.for_sale,
        )
        return Plan(lambda _: Listed(product_id), commands=(command,))

    operation = Operation(
        summary="Change a product",
        description="Carts that hold it show a changed price, and ask for it to be accepted.",
        tag=TAG,
        body=Changes,
        body_example={"price": {"currency": "EUR", "value": 1499}},
        answers={200: Listed},
        refusals=(403, 404),
    )
    return WholeNumbers(desk, "PATCH", ONE, change, operation=operation)


def receiving(desk: Desk) -> Endpoint:
    async def receive(asked: Asked[Delivery]) -> Plan:
        body, product_id = asked.body, asked.id_in_path("productId")
        before = StockItem()

        async def prepare(look: Look) -> Sequence[Command]:
            nonlocal before
            product = await known_product(look, product_id)
            if product.seller_id != asked.member_id:
                raise NotTheSeller(product_id)
            # Not `look`: others sell from this shelf all the time.
            before = (await desk.executor.state(stock_stream(product_id), fresh=True)).value
            return (
                ReceiveStock(
                    product_id=product_id, quantity=body.quantity, reference=body.reference
                ),
            )

        return Plan(lambda recorded: on_hand(before, recorded), prepare=prepare)

    operation = Operation(
        summary="Receive stock of a product",
        tag=TAG,
        body=Delivery,
        body_example={"quantity": 10, "reference": "delivery-2026-001"},
        answers={200: OnHand},
        refusals=(403, 404),
    )
    return WholeNumbers(desk, "POST", f"{ONE}/stock", receive, operation=operation)


def on_hand(before: StockItem, recorded: Sequence[Recorded]) -> OnHand:
    events = [one.event for one in recorded]
    received = sum(event.quantity for event in events if isinstance(event, StockReceived))
    expired = sum(event.quantity for event in events if isinstance(event, ReservationExpired))
    return OnHand(before.on_hand + received, before.available + received + expired)
