"""Open a shop."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct
from starlette.routing import Route

from command_api.endpoint import Asked, Desk, Endpoint, Plan
from command_api.market import Market
from command_api.texts import WITHOUT_NUL
from domain.commerce.shop.commands import OpenShop
from domain.commerce.shop.decider import NAME_LENGTH_MAX
from infra.http.openapi import Operation
from infra.ports.log import Recorded

TAG = "Shops"


class Opening(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    name: Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH_MAX, pattern=WITHOUT_NUL)]
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$", examples=["DE"])]


class Opened(Struct, frozen=True, rename="camel"):
    shop_id: str


def routes(desk: Desk, market: Market) -> list[Route]:
    async def open_shop(asked: Asked[Opening]) -> Plan:
        shop_id = market.new_id()

        def facts(_recorded: Sequence[Recorded]) -> Opened:
            return Opened(shop_id)

        command = OpenShop(
            shop_id=shop_id,
            owner_id=asked.member_id,
            name=asked.body.name,
            country=asked.body.country,
        )
        return Plan(facts, commands=(command,))

    operation = Operation(
        summary="Open a shop",
        description="A member with a shop is a seller; there is one shop a member.",
        tag=TAG,
        body=Opening,
        body_example={"name": "Mugs and more", "country": "DE"},
        answers={201: Opened},
        answer_example={"shopId": "0d1kq3h8o2c7a"},
    )
    return [Endpoint(desk, "POST", "/api/shops", open_shop, operation=operation).route()]
