"""The shapes of what searching answers, as API.md fixes them."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from infra.ports.search_reads import Facets
from query_api.shapes.commerce import ProductPage
from query_api.shapes.social import FeedItem, Profile

Filled = Annotated[
    float,
    Meta(ge=0, le=1, description="while the index is filled, newest first: how much of it is"),
]


class ChoiceCount(Struct, frozen=True, rename="camel"):
    value: str
    count: int


class PriceCount(Struct, frozen=True, rename={"low": "from", "high": "to"}):
    """Prices in minor units, both inclusive; `to` is null where there is no end."""

    low: int
    high: int | None
    count: int


class AvailableCount(Struct, frozen=True, rename={"yes": "true", "no": "false"}):
    yes: int
    no: int


class SellerCount(Struct, frozen=True, rename="camel"):
    """`value` is the shop's id, as the filter `shopId` takes it."""

    value: str
    name: str
    count: int


class AttributeCounts(Struct, frozen=True, rename="camel"):
    name: str
    values: list[ChoiceCount]


class FacetCounts(Struct, frozen=True, rename="camel"):
    """How many products each choice would leave, each facet counted without its own filter."""

    category: list[ChoiceCount]
    price: list[PriceCount]
    available: AvailableCount
    seller: list[SellerCount]
    attributes: list[AttributeCounts]


class FoundPosts(Struct, frozen=True, rename="camel", kw_only=True):
    results: list[FeedItem]
    next_cursor: str | None
    has_more: bool
    degraded: bool | UnsetType = UNSET
    filled: Filled | UnsetType = UNSET


class FoundUsers(Struct, frozen=True, rename="camel", kw_only=True):
    results: list[Profile]
    next_cursor: str | None
    has_more: bool
    degraded: bool | UnsetType = UNSET
    filled: Filled | UnsetType = UNSET


class FoundProducts(Struct, frozen=True, rename="camel", kw_only=True):
    """`facets` come with the first page."""

    results: list[ProductPage]
    facets: FacetCounts | UnsetType = UNSET
    next_cursor: str | None
    has_more: bool
    degraded: bool | UnsetType = UNSET
    filled: Filled | UnsetType = UNSET


def counts_of(facets: Facets) -> FacetCounts:
    return FacetCounts(
        category=[ChoiceCount(*choice) for choice in facets.categories],
        price=[PriceCount(*prices) for prices in facets.prices],
        available=AvailableCount(facets.available, facets.unavailable),
        seller=[SellerCount(*shop) for shop in facets.shops],
        attributes=[
            AttributeCounts(name, [ChoiceCount(*choice) for choice in choices])
            for name, choices in facets.attributes.items()
        ],
    )
