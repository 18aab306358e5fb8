"""What can have happened to a product. Attributes are kept as the seller gave them."""

from typing import ClassVar

from msgspec import field

from domain.shared.message import Event
from domain.shared.money import Money

Attribute = str | int | float | bool


class ProductListed(Event, frozen=True, kw_only=True, tag="product.listed.v1"):
    ordered_by: ClassVar[str] = "product_id"
    product_id: str
    shop_id: str
    seller_id: str
    title: str
    description: str
    category: str
    price: Money
    media_urls: tuple[str, ...] = ()
    attributes: dict[str, Attribute] = field(default_factory=dict)


class ProductDescribed(Event, frozen=True, kw_only=True, tag="product.described.v1"):
    """A field that is None was not changed."""

    ordered_by: ClassVar[str] = "product_id"
    product_id: str
    title: str | None = None
    description: str | None = None
    category: str | None = None
    media_urls: tuple[str, ...] | None = None
    attributes: dict[str, Attribute] | None = None


class PriceChanged(Event, frozen=True, kw_only=True, tag="product.price_changed.v1"):
    ordered_by: ClassVar[str] = "product_id"
    product_id: str
    price: Money


class ProductWithdrawn(Event, frozen=True, kw_only=True, tag="product.withdrawn.v1"):
    """It is no longer for sale; what was bought stays bought."""

    ordered_by: ClassVar[str] = "product_id"
    product_id: str


class ProductOffered(Event, frozen=True, kw_only=True, tag="product.offered.v1"):
    """It is for sale again after it was withdrawn."""

    ordered_by: ClassVar[str] = "product_id"
    product_id: str


ProductEvent = ProductListed | ProductDescribed | PriceChanged | ProductWithdrawn | ProductOffered
