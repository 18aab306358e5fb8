"""Shops, and what they say about what they sell, at every position."""

from collections.abc import Sequence
from typing import assert_never, get_args

import msgspec

from domain.commerce.product import events as products
from domain.commerce.shop import events as shops
from domain.shared.identifiers import id_number
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.ports.log import Recorded
from infra.ports.tables import Change, Column, Insert, RangeTable, Revise, Table
from infra.runtime.projecting.projection import Projection

Handled = products.ProductEvent | shops.ShopOpened

SHOPS = Table(
    name="shops",
    columns=(
        Column("shop_id", "bigint"),
        Column("owner_id", "bigint"),
        Column("name", "text"),
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
        Column("title", "text"),
        Column("description", "text"),
        Column("category", "text"),
        Column("currency", "text"),
        Column("price", "bigint"),
        Column("media_urls", "text[]"),
        Column("attributes", "text"),
        Column("for_sale", "boolean"),
    ),
    primary_key=("product_id", "since"),
    key=("product_id",),
    indexes=("(category, product_id DESC)",),
    touches=(("products", "product_id"),),
    revisable=True,
)

_encode = msgspec.json.Encoder().encode


def fold(recorded: Recorded) -> Sequence[Change]:
    event: Handled = recorded.event  # type: ignore[assignment]
    if isinstance(event, shops.ShopOpened):
        row = (id_number(event.shop_id), id_number(event.owner_id), event.name, event.country)
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
            return (Revise(PRODUCTS, key, {"for_sale": False}),)
        case products.ProductOffered():
            return (Revise(PRODUCTS, key, {"for_sale": True}),)
        case _:
            assert_never(event)


def listed(event: products.ProductListed) -> tuple[object, ...]:
    return (
        id_number(event.product_id),
        id_number(event.shop_id),
        id_number(event.seller_id),
        event.title,
        event.description,
        event.category,
        event.price.currency,
        event.price.value,
        list(event.media_urls),
        _encode(event.attributes).decode(),
        True,
    )


def described(event: products.ProductDescribed) -> dict[str, object]:
    new: dict[str, object] = {
        name: value
        for name in ("title", "description", "category")
        if (value := getattr(event, name)) is not None
    }
    if event.media_urls is not None:
        new["media_urls"] = list(event.media_urls)
    if event.attributes is not None:
        new["attributes"] = _encode(event.attributes).decode()
    return new


PROJECTION = Projection(
    name="products",
    version=1,
    handles=frozenset(get_args(Handled)),
    tables=(SHOPS, PRODUCTS),
    fold=fold,
    partitions=COMMERCE_PARTITIONS,
)
