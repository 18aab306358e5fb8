"""Product events of earlier versions, and what they mean today."""

from typing import ClassVar

from msgspec import field

from domain.commerce.product.events import Attributes, ProductDescribed, ProductListed
from domain.shared.message import Event
from domain.shared.money import Money
from domain.shared.personal import Personal, given


class ProductListedV1(Event, frozen=True, kw_only=True, tag="product.listed.v1"):
    """Written when what a seller says of its goods was kept as it is."""

    ordered_by: ClassVar[str] = "product_id"
    product_id: str
    shop_id: str
    seller_id: str
    title: str
    description: str
    category: str
    price: Money
    media_urls: tuple[str, ...] = ()
    attributes: Attributes = field(default_factory=dict)


class ProductDescribedV1(Event, frozen=True, kw_only=True, tag="product.described.v1"):
    """Written when what a seller says of its goods was kept as it is, by whoever sells them."""

    ordered_by: ClassVar[str] = "product_id"
    product_id: str
    title: str | None = None
    description: str | None = None
    category: str | None = None
    media_urls: tuple[str, ...] | None = None
    attributes: Attributes | None = None


def product_listed(old: ProductListedV1) -> ProductListed:
    return ProductListed(
        product_id=old.product_id,
        shop_id=old.shop_id,
        seller_id=old.seller_id,
        title=Personal(old.title),
        description=Personal(old.description),
        category=old.category,
        price=old.price,
        media_urls=Personal(old.media_urls),
        attributes=Personal(old.attributes),
    )


def product_described(old: ProductDescribedV1) -> ProductDescribed:
    return ProductDescribed(
        product_id=old.product_id,
        seller_id="",
        title=given(old.title),
        description=given(old.description),
        category=old.category,
        media_urls=given(old.media_urls),
        attributes=given(old.attributes),
    )


OldProductEvent = ProductListedV1 | ProductDescribedV1
