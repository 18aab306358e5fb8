"""What can have happened to a shop."""

from typing import ClassVar

from domain.shared.message import Event


class ShopOpened(Event, frozen=True, kw_only=True, tag="shop.opened.v1"):
    ordered_by: ClassVar[str] = "shop_id"
    shop_id: str
    owner_id: str
    name: str
    country: str


ShopEvent = ShopOpened
