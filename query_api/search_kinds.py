"""What differs between posts, accounts and products when they are searched.

query → candidates (from the index) → hydrate (from the read tables) → filter → present: the index
says what may match and in which order; what is shown, and whether it is, is read as it is now.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from domain.shared.identifiers import id_number
from infra.ports.log import OPEN
from infra.ports.search_reads import (
    FoundProducts,
    Kind,
    ProductFilters,
    ProductOrder,
    ProductPlace,
    Query,
)
from query_api.context import Context
from query_api.items import Item
from query_api.market import Market, Product
from query_api.pipeline import is_shown
from query_api.present import posts_json
from query_api.search_index import SearchIndex
from query_api.search_lists import BEST_MAX, NEWEST, Candidate, Rest, Results, Visible
from query_api.search_shapes import counts_of
from query_api.shapes import Profile
from query_api.users import profiles
from query_api.viewers import Viewer

S = TypeVar("S")
encode = msgspec.json.Encoder().encode
NEWEST_PRODUCTS: Candidate = (OPEN, 0)


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

    async def first(self, query: Query, wanted: Asked) -> tuple[Results, bool]:
        """Where a walk begins, and whether the words of the query are anywhere at all."""
        ...

    def rest(self, wanted: Asked, results: Results) -> Rest | None:
        """What comes after the best, if anything does."""
        ...

    def visible(self, viewer: Viewer) -> Visible[S]: ...

    async def json(self, results: Results, shown: Sequence[S], viewer: Viewer) -> bytes:
        """The list of what is shown, and what goes with it."""
        ...


def newest_besides(index: SearchIndex, kind: Kind, wanted: Asked, results: Results) -> Rest | None:
    """What follows the best; None where these are all that match."""
    if wanted.order == "relevance" and len(results.best) < BEST_MAX:
        return None
    return newest_first(index, kind, wanted.query.guessing(results.guesses))


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
    def __init__(self, context: Context, index: SearchIndex) -> None:
        self._context = context
        self._index = index

    async def first(self, query: Query, wanted: Asked) -> tuple[Results, bool]:
        if wanted.order == "newest":
            results = Results(query.guesses, (), NEWEST)
            newest = newest_first(self._index, "posts", query)
            return results, not query.is_text or bool(await newest(NEWEST, 1, ()))
        now = self._index.now()
        best = await self._index.ask(
            ("posts", query), lambda: self._index.reads.best_posts(query, now, BEST_MAX)
        )
        return Results(query.guesses, best, NEWEST), bool(best)

    def rest(self, wanted: Asked, results: Results) -> Rest | None:
        return newest_besides(self._index, "posts", wanted, results)

    def visible(self, viewer: Viewer) -> Visible[Item]:
        async def seen(numbers: Sequence[int]) -> Mapping[int, Item]:
            items = await self._context.items.by_id(numbers)
            return {number: item for number, item in items.items() if is_shown(item, viewer)}

        return seen

    async def json(self, results: Results, shown: Sequence[Item], viewer: Viewer) -> bytes:
        del results
        await self._context.viewers.know(viewer, [item.post_position for item in shown])
        return b"[" + posts_json(shown, viewer) + b"]"


class Members:
    """Accounts are found by whoever has muted them, too: to take that back."""

    def __init__(self, context: Context, index: SearchIndex) -> None:
        self._context = context
        self._index = index

    async def first(self, query: Query, wanted: Asked) -> tuple[Results, bool]:
        del wanted
        best = await self._index.ask(
            ("users", query), lambda: self._index.reads.best_members(query, BEST_MAX)
        )
        return Results(query.guesses, best, NEWEST), bool(best)

    def rest(self, wanted: Asked, results: Results) -> Rest | None:
        return newest_besides(self._index, "users", wanted, results)

    def visible(self, viewer: Viewer) -> Visible[Profile]:
        async def seen(numbers: Sequence[int]) -> Mapping[int, Profile]:
            shown = await profiles(self._context, viewer, numbers)
            return {id_number(profile.id): profile for profile in shown}

        return seen

    async def json(self, results: Results, shown: Sequence[Profile], viewer: Viewer) -> bytes:
        del results, viewer
        return encode(shown)


class Products:
    """Without a market there are none."""

    def __init__(self, index: SearchIndex, market: Market | None) -> None:
        self._index = index
        self._market = market

    async def first(self, query: Query, wanted: Asked) -> tuple[Results, bool]:
        found = await self._best(query, wanted)
        best = [place.product_id for place in found.places]
        last = NEWEST_PRODUCTS
        if wanted.order.startswith("price") and found.places:
            last = found.places[-1]
        results = Results(query.guesses, best, last, facets=found.facets)
        return results, found.matching > 0

    async def _best(self, query: Query, wanted: Asked) -> FoundProducts:
        return await self._index.ask(
            ("products", query, wanted.filters, wanted.order),
            lambda: self._index.reads.products(
                query, wanted.filters, wanted.order, BEST_MAX, facets=True
            ),
        )

    def rest(self, wanted: Asked, results: Results) -> Rest | None:
        if len(results.best) < BEST_MAX:
            return None
        # By relevance, the best are followed by what is newest.
        order: ProductOrder = "newest" if wanted.order == "relevance" else wanted.order
        query = wanted.query.guessing(results.guesses)
        filters = wanted.filters

        async def more(
            last: Candidate, limit: int, without: Collection[int]
        ) -> Sequence[Candidate]:
            after = None if last == NEWEST_PRODUCTS else ProductPlace(*last)
            found = await self._index.ask(
                ("more products", query, filters, order, last, limit, tuple(without)),
                lambda: self._index.reads.products(
                    query, filters, order, limit, after=after, without=without
                ),
            )
            return found.places

        return more

    def visible(self, viewer: Viewer) -> Visible[Product]:
        del viewer

        async def seen(numbers: Sequence[int]) -> Mapping[int, Product]:
            if self._market is None:
                return {}
            products = await self._market.products.get(numbers)
            return {number: one for number, one in products.items() if one.row.for_sale}

        return seen

    async def json(self, results: Results, shown: Sequence[Product], viewer: Viewer) -> bytes:
        del viewer
        facets = results.facets
        counts = b"" if facets is None else b',"facets":' + encode(counts_of(facets))
        return b"[" + b",".join(one.json for one in shown) + b"]" + counts
