"""What can be asked of a shop."""

from typing import ClassVar

from domain.shared.message import Command


class OpenShop(Command, frozen=True, kw_only=True):
    creates: ClassVar[bool] = True
    shop_id: str
    owner_id: str
    name: str
    country: str


ShopCommand = OpenShop
