"""What can be asked of a product."""

from typing import ClassVar

from msgspec import field

from domain.commerce.product.events import Attribute
from domain.shared.message import Command
from domain.shared.money import Money


class ListProduct(Command, frozen=True, kw_only=True):
    """`shop_id` is the shop of `seller_id`; whoever asks has looked it up."""

    creates: ClassVar[bool] = True
    product_id: str
    shop_id: str
    seller_id: str
    title: str
    description: str
    category: str
    price: Money
    media_urls: tuple[str, ...] = ()
    attributes: dict[str, Attribute] = field(default_factory=dict)


class ChangeProduct(Command, frozen=True, kw_only=True):
    """A field that is None stays as it is. `for_sale` False withdraws it, True offers it again.

    `because_of` is `erasure` where the seller is erased, and with them what was said of it.
    """

    product_id: str
    seller_id: str
    title: str | None = None
    description: str | None = None
    category: str | None = None
    price: Money | None = None
    media_urls: tuple[str, ...] | None = None
    attributes: dict[str, Attribute] | None = None
    for_sale: bool | None = None
    because_of: str = "seller"


ProductCommand = ListProduct | ChangeProduct
