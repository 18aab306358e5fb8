"""Shops, and what they say about what they sell, at every position. What they wrote stays sealed.

An empty list of media, and no attributes, are null.
"""

from collections.abc import Sequence
from typing import assert_never, get_args

from domain.commerce.product import events as products
from domain.commerce.shop import events as shops
from domain.shared.identifiers import id_number
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.ports.log import Recorded
from infra.ports.tables import Blank, Change, Column, Insert, RangeTable, Revise, Table
from infra.runtime.projecting.projection import Projection

Handled = products.ProductEvent | shops.ShopOpened

WRITTEN = ("title", "description", "media_urls", "attributes")

SHOPS = Table(
    name="shops",
    columns=(
        Column("shop_id", "bigint"),
        Column("owner_id", "bigint"),
        Column("name", "bytea", nullable=True),
        Column("country", "text"),
    ),
    primary_key=("shop_id",),
)

PRODUCTS = RangeTable(
    name="products",
    columns=(
        Column("product_id", "bigint"),
        Column("shop_id", "bigint"),
        Column("seller_id", "bigint"),
        Column("title", "bytea", nullable=True),
        Column("description", "bytea", nullable=True),
        Column("category", "text"),
        Column("currency", "text"),
        Column("price", "bigint"),
        Column("media_urls", "bytea", nullable=True),
        Column("attributes", "bytea", nullable=True),
        Column("for_sale", "boolean"),
    ),
    primary_key=("product_id", "since"),
    key=("product_id",),
    indexes=("(category, product_id DESC)",),
    touches=(("products", "product_id"),),
    revisable=True,
)


def fold(recorded: Recorded) -> Sequence[Change]:
    event: Handled = recorded.event  # type: ignore[assignment]
    if isinstance(event, shops.ShopOpened):
        row = (
            id_number(event.shop_id),
            id_number(event.owner_id),
            event.name.sealed,
            event.country,
        )
        return (Insert(SHOPS, row),)
    key = (id_number(event.product_id),)
    match event:
        case products.ProductListed():
            return (Insert(PRODUCTS, listed(event)),)
        case products.ProductDescribed():
            return (Revise(PRODUCTS, key, described(event)),)
        case products.PriceChanged():
            price = {"currency": event.price.currency, "price": event.price.value}
            return (Revise(PRODUCTS, key, price),)
        case products.ProductWithdrawn():
            forgotten = (Blank(PRODUCTS, key, WRITTEN),) if event.because_of == "erasure" else ()
            return (Revise(PRODUCTS, key, {"for_sale": False}), *forgotten)
        case products.ProductOffered():
            return (Revise(PRODUCTS, key, {"for_sale": True}),)
        case _:
            assert_never(event)


def listed(event: products.ProductListed) -> tuple[object, ...]:
    return (
        id_number(event.product_id),
        id_number(event.shop_id),
        id_number(event.seller_id),
        event.title.sealed,
        event.description.sealed,
        event.category,
        event.price.currency,
        event.price.value,
        event.media_urls.sealed,
        event.attributes.sealed,
        True,
    )


def described(event: products.ProductDescribed) -> dict[str, object]:
    said: dict[str, object] = {
        name: value.sealed for name in WRITTEN if (value := getattr(event, name)) is not None
    }
    return said if event.category is None else {**said, "category": event.category}


PROJECTION = Projection(
    name="products",
    version=2,
    handles=frozenset(get_args(Handled)),
    tables=(SHOPS, PRODUCTS),
    fold=fold,
    partitions=COMMERCE_PARTITIONS,
)
