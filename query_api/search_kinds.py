"""What differs between posts, accounts and products when they are searched.

query → candidates (from the index) → hydrate (from the read tables) → filter → present: the index
says what may match and in which order; what is shown, and whether it is, is read as it is now.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import msgspec

from domain.shared.identifiers import id_number
from infra.ports.log import OPEN
from infra.ports.search_reads import (
    Kind,
    ProductFilters,
    ProductOrder,
    ProductPlace,
    Query,
)
from query_api.context import Context
from query_api.market import Market, Product
from query_api.profiles import profiles
from query_api.searching.search_index import SearchIndex
from query_api.searching.search_lists import (
    NEWEST,
    Candidate,
    First,
    Listing,
    Rest,
    Visible,
    asked_for,
)
from query_api.shapes.social import Profile
from query_api.timelines.items import Item
from query_api.timelines.pipeline import is_shown
from query_api.timelines.present import posts_json
from query_api.timelines.viewers import Viewer

S = TypeVar("S")
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Asked:
    """One request, understood."""

    text: str
    query: Query
    order: ProductOrder
    filters: ProductFilters
    limit: int


class Found(Protocol[S]):
    """One kind of things that are found."""

    start: Candidate
    """Where the rest begins, which follows the best."""

    async def first(self, query: Query, wanted: Asked) -> First:
        """What a walk begins with."""
        ...

    def listing(self, query: Query, wanted: Asked) -> Listing: ...

    def visible(self, viewer: Viewer) -> Visible[S]: ...

    async def json(self, shown: Sequence[S], viewer: Viewer) -> bytes:
        """The list of what is shown."""
        ...


def newest_first(index: SearchIndex, kind: Kind, query: Query) -> Rest:
    """All posts or accounts that match, newest first."""
    reads = index.reads
    look = reads.newest_posts if kind == "posts" else reads.newest_members

    async def more(last: Candidate, limit: int, without: Collection[int]) -> Sequence[Candidate]:
        found = await index.ask(
            ("newest", kind, query, last, limit, tuple(without)),
            lambda: look(query, last[0], limit, without),
        )
        return [(number,) for number in found]

    return more


class Posts:
    start = NEWEST

    def __init__(self, context: Context, index: SearchIndex) -> None:
        self._context = context
        self._index = index

    async def first(self, query: Query, wanted: Asked) -> First:
        if wanted.order == "newest":
            newest = newest_first(self._index, "posts", query)
            return First((), not query.is_text or bool(await newest(NEWEST, 1, ())))
        best = await self._best(query, asked_for(wanted.limit), ())
        return First(best, bool(best))

    def listing(self, query: Query, wanted: Asked) -> Listing:
        best = None if wanted.order == "newest" else partial(self._best, query)
        return Listing(best, newest_first(self._index, "posts", query))

    async def _best(
        self, query: Query, limit: int, without: Collection[int]
    ) -> Sequence[Candidate]:
        now = self._index.now()
        found = await self._index.ask(
            ("posts", query, limit, tuple(without)),
            lambda: self._index.reads.best_posts(query, now, limit, without),
        )
        return [(number,) for number in found]

    def visible(self, viewer: Viewer) -> Visible[Item]:
        async def seen(numbers: Sequence[int]) -> Mapping[int, Item]:
            items = await self._context.items.by_id(numbers)
            return {number: item for number, item in items.items() if is_shown(item, viewer)}

        return seen

    async def json(self, shown: Sequence[Item], viewer: Viewer) -> bytes:
        await self._context.viewers.know(viewer, [item.post_position for item in shown])
        return b"[" + posts_json(shown, viewer) + b"]"


class Members:
    """Accounts are found by whoever has muted them, too: to take that back."""

    start = NEWEST

    def __init__(self, context: Context, index: SearchIndex) -> None:
        self._context = context
        self._index = index

    async def first(self, query: Query, wanted: Asked) -> First:
        best = await self._best(query, asked_for(wanted.limit), ())
        return First(best, bool(best))

    def listing(self, query: Query, wanted: Asked) -> Listing:
        del wanted
        return Listing(partial(self._best, query), newest_first(self._index, "users", query))

    async def _best(
        self, query: Query, limit: int, without: Collection[int]
    ) -> Sequence[Candidate]:
        found = await self._index.ask(
            ("users", query, limit, tuple(without)),
            lambda: self._index.reads.best_members(query, limit, without),
        )
        return [(number,) for number in found]

    def visible(self, viewer: Viewer) -> Visible[Profile]:
        async def seen(numbers: Sequence[int]) -> Mapping[int, Profile]:
            shown = await profiles(self._context, viewer, numbers)
            return {id_number(profile.id): profile for profile in shown}

        return seen

    async def json(self, shown: Sequence[Profile], viewer: Viewer) -> bytes:
        del viewer
        return encode(shown)


class Products:
    """Without a market there are none."""

    start: Candidate = (OPEN, 0)

    def __init__(self, index: SearchIndex, market: Market | None) -> None:
        self._index = index
        self._market = market

    async def first(self, query: Query, wanted: Asked) -> First:
        limit = asked_for(wanted.limit)
        found = await self._index.ask(
            ("products", query, wanted.filters, wanted.order, limit),
            lambda: self._index.reads.products(
                query, wanted.filters, wanted.order, limit, facets=True
            ),
        )
        return First(found.places, found.matching > 0, found.facets)

    def listing(self, query: Query, wanted: Asked) -> Listing:
        # By relevance, the best are followed by what is newest.
        by_relevance = wanted.order == "relevance"
        meant = replace(wanted, query=query)
        rest = replace(meant, order="newest") if by_relevance else meant
        return Listing(
            partial(self._more, meant, self.start),
            partial(self._more, rest),
            goes_on=not by_relevance,
        )

    async def _more(
        self, wanted: Asked, last: Candidate, limit: int, without: Collection[int]
    ) -> Sequence[Candidate]:
        query, filters, order = wanted.query, wanted.filters, wanted.order
        after = None if last == self.start else ProductPlace(*last)
        found = await self._index.ask(
            ("more products", query, filters, order, last, limit, tuple(without)),
            lambda: self._index.reads.products(
                query, filters, order, limit, after=after, without=without
            ),
        )
        return found.places

    def visible(self, viewer: Viewer) -> Visible[Product]:
        del viewer

        async def seen(numbers: Sequence[int]) -> Mapping[int, Product]:
            if self._market is None:
                return {}
            products = await self._market.products.get(numbers)
            return {number: one for number, one in products.items() if one.page.for_sale}

        return seen

    async def json(self, shown: Sequence[Product], viewer: Viewer) -> bytes:
        del viewer
        return b"[" + b",".join(one.json for one in shown) + b"]"
