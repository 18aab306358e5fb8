"""What can have happened to a product. Attributes are kept as the seller gave them.

What a seller wrote is personal. A category is not: it names a shelf that many goods stand on.
"""

from typing import ClassVar

from domain.shared.message import Event
from domain.shared.money import Money
from domain.shared.personal import Personal

Attribute = str | int | float | bool
Attributes = dict[str, Attribute]
NO_ATTRIBUTES: Personal[Attributes] = Personal({})


class ProductListed(Event, frozen=True, kw_only=True, tag="product.listed.v2"):
    ordered_by: ClassVar[str] = "product_id"
    about: ClassVar[str] = "seller_id"
    product_id: str
    shop_id: str
    seller_id: str
    title: Personal[str]
    description: Personal[str]
    category: str
    price: Money
    media_urls: Personal[tuple[str, ...]] = Personal(())
    attributes: Personal[Attributes] = NO_ATTRIBUTES


class ProductDescribed(Event, frozen=True, kw_only=True, tag="product.described.v2"):
    """A field that is None was not changed."""

    ordered_by: ClassVar[str] = "product_id"
    about: ClassVar[str] = "seller_id"
    product_id: str
    seller_id: str
    title: Personal[str] | None = None
    description: Personal[str] | None = None
    category: str | None = None
    media_urls: Personal[tuple[str, ...]] | None = None
    attributes: Personal[Attributes] | None = None


class PriceChanged(Event, frozen=True, kw_only=True, tag="product.price_changed.v1"):
    ordered_by: ClassVar[str] = "product_id"
    product_id: str
    price: Money


class ProductWithdrawn(Event, frozen=True, kw_only=True, tag="product.withdrawn.v1"):
    """It is no longer for sale; what was bought stays bought. `because_of`: `seller` or `erasure`,
    after which nobody can read what was said of it."""

    ordered_by: ClassVar[str] = "product_id"
    product_id: str
    because_of: str = "seller"


class ProductOffered(Event, frozen=True, kw_only=True, tag="product.offered.v1"):
    """It is for sale again after it was withdrawn."""

    ordered_by: ClassVar[str] = "product_id"
    product_id: str


ProductEvent = ProductListed | ProductDescribed | PriceChanged | ProductWithdrawn | ProductOffered
