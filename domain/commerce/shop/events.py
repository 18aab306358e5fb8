"""What can have happened to a shop."""

from typing import ClassVar

from domain.shared.message import Event
from domain.shared.personal import Personal


class ShopOpened(Event, frozen=True, kw_only=True, tag="shop.opened.v2"):
    ordered_by: ClassVar[str] = "shop_id"
    about: ClassVar[str] = "owner_id"
    shop_id: str
    owner_id: str
    name: Personal[str]
    country: str


ShopEvent = ShopOpened
