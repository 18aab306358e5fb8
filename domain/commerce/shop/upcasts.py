"""Shop events of earlier versions, and what they mean today."""

from typing import ClassVar

from domain.commerce.shop.events import ShopOpened
from domain.shared.message import Event
from domain.shared.personal import Personal


class ShopOpenedV1(Event, frozen=True, kw_only=True, tag="shop.opened.v1"):
    """Written when the name of a shop was kept as it is."""

    ordered_by: ClassVar[str] = "shop_id"
    shop_id: str
    owner_id: str
    name: str
    country: str


def shop_opened(old: ShopOpenedV1) -> ShopOpened:
    return ShopOpened(
        shop_id=old.shop_id, owner_id=old.owner_id, name=Personal(old.name), country=old.country
    )


OldShopEvent = ShopOpenedV1
