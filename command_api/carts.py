"""Put products into one's cart, and take them out."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from msgspec import Meta, Struct
from starlette.routing import Route

from command_api.endpoint import Asked, Desk, Plan
from command_api.market import known_product
from command_api.named_ids import NamedId, require_id, unknown
from command_api.whole_numbers import WholeNumbers
from domain.commerce.cart.commands import PutCartItem, RemoveCartItem
from domain.commerce.cart.decider import QUANTITY_MAX
from domain.commerce.cart.events import CartItem
from domain.shared.message import Command
from infra.http.openapi import Operation
from infra.runtime.commands.execute import Look

TAG = "Cart"
ITEM = "/api/cart/items/{productId}"


class Putting(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`sourcePostId`: the post in which the member came across the product."""

    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
    source_post_id: NamedId | None = None


class Line(Struct, frozen=True, rename="camel"):
    product_id: str
    quantity: int


KnowsPost = Callable[[Look, str], Awaitable[bool]]
"""Whether there is, or was, a post of this id: the other half knows."""


def routes(desk: Desk, knows: KnowsPost) -> list[Route]:
    async def put(asked: Asked[Putting]) -> Plan:
        body, product_id = asked.body, asked.id_in_path("productId")
        source = body.source_post_id
        if source is not None:
            require_id(source, "post", "/sourcePostId")

        async def prepare(look: Look) -> Sequence[Command]:
            product = await known_product(look, product_id)
            assert product.price is not None
            if source is not None and not await knows(look, source):
                raise unknown("post", "/sourcePostId")
            item = CartItem(
                product_id=product_id,
                quantity=body.quantity,
                seen_price=product.price,
                source_post_id=source,
            )
            return (PutCartItem(member_id=asked.member_id, item=item),)

        return Plan(lambda _: Line(product_id, body.quantity), prepare=prepare)

    async def remove(asked: Asked[None]) -> Plan:
        product_id = asked.id_in_path("productId")
        command = RemoveCartItem(member_id=asked.member_id, product_id=product_id)
        return Plan(lambda _: Line(product_id, 0), commands=(command,))

    putting = Operation(
        summary="Set how many of a product are in one's cart",
        description="The price is accepted as it is now. More units than there are may be put in, "
        "and are shown as a problem.",
        tag=TAG,
        body=Putting,
        body_example={"quantity": 2},
        answers={200: Line},
        refusals=(404,),
    )
    removing = Operation(
        summary="Take a product out of one's cart",
        description="Repeating it is the same answer.",
        tag=TAG,
        answers={200: Line},
        refusals=(404,),
    )
    return [
        WholeNumbers(desk, "PUT", ITEM, put, operation=putting).route(),
        WholeNumbers(desk, "DELETE", ITEM, remove, operation=removing).route(),
    ]
