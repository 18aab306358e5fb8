"""A shop. Its stream is named by its owner, since a member has one shop at most."""

from datetime import datetime

from msgspec import Struct

from domain.commerce.shop import events
from domain.commerce.shop.commands import ShopCommand
from domain.commerce.shop.events import ShopEvent
from domain.commerce.shop.rejections import ShopAlreadyOpen
from domain.shared.decider import Decider
from domain.shared.personal import Personal
from domain.shared.rejection import Invalid
from domain.shared.values import check_text

NAME_LENGTH_MAX = 100
COUNTRY_LENGTH = 2


class Shop(Struct, frozen=True):
    """`shop_id` is empty until the shop is opened."""

    shop_id: str = ""


def decide(command: ShopCommand, shop: Shop, _now: datetime) -> list[ShopEvent]:
    check_text(command.name, "/name", length_min=1, length_max=NAME_LENGTH_MAX)
    check_country(command.country)
    if shop.shop_id:
        raise ShopAlreadyOpen(shop.shop_id)
    return [
        events.ShopOpened(
            shop_id=command.shop_id,
            owner_id=command.owner_id,
            name=Personal(command.name),
            country=command.country,
        )
    ]


def check_country(country: str, pointer: str = "/country") -> None:
    if len(country) != COUNTRY_LENGTH or not (country.isascii() and country.isalpha()):
        raise Invalid(pointer, "must be a country code of two letters, such as DE")
    if not country.isupper():
        raise Invalid(pointer, "must be in upper case, such as DE")


def evolve(_shop: Shop, event: ShopEvent) -> Shop:
    return Shop(shop_id=event.shop_id)


def shop_stream(owner_id: str) -> str:
    return f"shop:{owner_id}"


SHOP = Decider(
    prefix="shop",
    stream=lambda command: shop_stream(command.owner_id),
    initial=Shop(),
    decide=decide,
    evolve=evolve,
)
