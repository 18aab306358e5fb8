"""Asks the search server, and reads ids and counts out of what it answers."""

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from opensearchpy import (
    AsyncOpenSearch,
    NotFoundError,
    OpenSearchException,
    RequestError,
    TransportError,
)
from opensearchpy.exceptions import HTTP_EXCEPTIONS

from domain.shared.identifiers import id_text, known_id_number
from infra.adapters.search.opensearch_bodies import (
    EVERYTHING,
    ORDERS,
    Body,
    Clauses,
    begins,
    best_members_body,
    best_posts_body,
    count_up_to,
    facets_body,
    facets_of,
    filtered,
    guessable,
    is_there,
    leaving_out,
    likeliest_members_body,
    listed,
    listed_with,
    members_matching,
    newest_posts_body,
    one_of,
    posts_matching,
    products_body,
    shop_names_body,
    shop_names_of,
    shops_of,
)
from infra.adapters.search.opensearch_index import OpenSearchStore
from infra.adapters.search.osmem import Osmem
from infra.adapters.search.ranks import named_so, ranked_members, ranked_posts
from infra.adapters.search.search_guard import Guard, ServerFailed
from infra.ports.log import OPEN
from infra.ports.search import IndexLost, SearchUnavailable
from infra.ports.search_documents import MEMBERS, POSTS, PRODUCTS, SearchIndex
from infra.ports.search_reads import (
    FoundProducts,
    IndexState,
    Kind,
    PostRanking,
    ProductFilters,
    ProductOrder,
    ProductPlace,
    Query,
    SearchUnanswered,
)

INDEX_OF: Mapping[Kind, SearchIndex] = {"posts": POSTS, "users": MEMBERS, "products": PRODUCTS}

RANKED_MAX = 500
"""If no slice has more posts that match, all of them are ranked."""

RANKED_HERE_MAX = 1_000
"""So many of what matches are ranked where the server would take too long: for posts the newest."""

READ_HERE_MAX = 1_000
"""Of so many that come first the names are read here, where the server would take too long to
expand the beginning of a word."""

SHOP_NAMES_MAX = 10_000

BY_SLICE, OVERALL = "query_then_fetch", "dfs_query_then_fetch"
"""What a word weighs: by how rare it is in a post's own slice, or in all, for one more round."""

LATELY_MAX = 2_000
HALF_LIVES = (2.0, 0.5, 0.125, 0.03, 0.008)
"""How far back, in half-lives of recency, the best of more are looked for before all are: as far as
there are not more than `LATELY_MAX`."""

WINDOWS_MAX = 10_000
WINDOW_HOLDS = timedelta(hours=1)

ANSWERED = (
    "status",
    "error.type",
    "timed_out",
    "terminated_early",
    "_shards.failed",
    "hits.total",
    "hits.hits.sort",
    "hits.hits._source",
    "aggregations",
)
"""All that is read of an answer, and so all that the server has to write."""

ONE = ",".join(ANSWERED)
SEVERAL = ",".join(f"responses.{name}" for name in ANSWERED)


class Window(NamedTuple):
    """How far back the best are looked for, and when that was found out."""

    length: timedelta
    measured: datetime


class OpenSearchReads:
    """`infra.ports.search_reads.SearchReads` over OpenSearch, or what speaks its protocol."""

    def __init__(self, client: AsyncOpenSearch, guard: Guard, ranking: PostRanking) -> None:
        self._client = client
        self._guard = guard
        self._ranking = ranking
        # The server gives up a little before we do.
        self._patience = f"{int(guard.limits.seconds * 900)}ms"
        # Of questions that more posts answer than are ranked; that does not change soon.
        self._windows: dict[Query, Window] = {}
        self._shop_names: dict[str, str] = {}
        self._is_osmem: bool | None = None
        self._stores = {kind: OpenSearchStore(client, index) for kind, index in INDEX_OF.items()}

    async def close(self) -> None:
        await self._client.close()

    # Posts.

    async def best_posts(
        self, query: Query, now: datetime, limit: int, without: Collection[int] = ()
    ) -> Sequence[int]:
        matching = posts_matching(query)
        left = leaving_out(matching, POSTS.id_field, without)
        if await self._ranks_slowly():
            found = await self._search(POSTS, newest_posts_body(left, RANKED_HERE_MAX))
            return ranked_posts(hits_of(found), self._ranking, now, limit)
        everything = best_posts_body(left, self._ranking, now, None, limit)
        window = self._windows.get(query)
        if window is None or now - window.measured > WINDOW_HOLDS:
            some = {**everything, "terminate_after": RANKED_MAX}
            found = await self._search(POSTS, some, OVERALL)
            if not found.get("terminated_early"):
                return ids_of(found)
            window = await self._measured(matching, now)
            self._remember(query, window)
        # All posts that match have all the words, so recency tells them apart most. Of common
        # ones, which are dear, what is old is looked at only where what is not is too little. They
        # are in so many posts that every slice has enough to weigh them by itself.
        newest = best_posts_body(left, self._ranking, now, now - window.length, limit)
        found = await self._search(POSTS, newest)
        if len(hits_of(found)) < limit:
            found = await self._search(POSTS, everything, OVERALL)
        return ids_of(found)

    async def _measured(self, matching: Body, now: datetime) -> Window:
        """The longest window in which there is not more to rank than can be."""
        half_life = timedelta(days=self._ranking.half_life_days)
        windows = [Window(half_life * part, now) for part in HALF_LIVES]
        counted = await self._searches(
            POSTS, [count_up_to(LATELY_MAX, matching, now - one.length) for one in windows]
        )
        totals = [one["hits"]["total"]["value"] for one in counted]
        small = (one for one, total in zip(windows, totals, strict=True) if total < LATELY_MAX)
        return next(small, windows[-1])

    def _remember(self, query: Query, window: Window) -> None:
        if len(self._windows) >= WINDOWS_MAX:
            self._windows.clear()
        self._windows[query] = window

    async def newest_posts(
        self, query: Query, before: int, limit: int, without: Collection[int] = ()
    ) -> Sequence[int]:
        return await self._newest(POSTS, posts_matching(query), before, limit, without)

    # Members.

    async def best_members(
        self, query: Query, limit: int, without: Collection[int] = ()
    ) -> Sequence[int]:
        matching = leaving_out(members_matching(query), MEMBERS.id_field, without)
        if await self._ranks_slowly():
            found = await self._search(MEMBERS, likeliest_members_body(matching, RANKED_HERE_MAX))
            return ranked_members(hits_of(found), limit)
        found = await self._search(MEMBERS, best_members_body(matching, limit))
        return ids_of(found)

    async def newest_members(
        self, query: Query, before: int, limit: int, without: Collection[int] = ()
    ) -> Sequence[int]:
        return await self._newest(MEMBERS, members_matching(query), before, limit, without)

    async def members_named(
        self, prefixes: Sequence[str], limit: int, among: Collection[int] | None = None
    ) -> Sequence[int]:
        among_these = [] if among is None else [one_of(MEMBERS.id_field, among)]
        order: Clauses = [{"followers": "desc"}, {"memberId": "desc"}]
        return await self._named(MEMBERS, prefixes, among_these, order, limit)

    # Products.

    async def products(  # noqa: PLR0913
        self,
        query: Query,
        filters: ProductFilters,
        order: ProductOrder,
        limit: int,
        *,
        after: ProductPlace | None = None,
        without: Collection[int] = (),
        facets: bool = False,
    ) -> FoundProducts:
        body = products_body(query, filters, order, limit, after=after, without=without)
        if facets:
            body["aggs"] = facets_body(filters)
            body["track_total_hits"] = True
        found = await self._search(PRODUCTS, body)
        places = {field: at for at, part in enumerate(ORDERS[order]) for field in part}
        hits = hits_of(found)
        counts = found["aggregations"] if facets else None
        return FoundProducts(
            [
                ProductPlace(
                    known_id_number(hit["sort"][places["productId"]]), hit["sort"][places["price"]]
                )
                for hit in hits
            ],
            counts["all"]["doc_count"] if counts else len(hits),
            facets_of(counts, filters, await self._shop_names_of(counts)) if counts else None,
        )

    async def _shop_names_of(self, counts: Any) -> Mapping[str, str]:
        """The names of the shops counted. To find them with the counts is dear, and they stay."""
        shops = shops_of(counts)
        names = {shop: name for shop in shops if (name := self._shop_names.get(shop)) is not None}
        if unknown := [shop for shop in shops if shop not in names]:
            found = await self._search(PRODUCTS, shop_names_body(unknown))
            learnt = shop_names_of(found["aggregations"])
            names |= learnt
            if len(self._shop_names) + len(learnt) > SHOP_NAMES_MAX:
                self._shop_names.clear()
            self._shop_names |= learnt
        return names

    async def products_named(self, prefixes: Sequence[str], limit: int) -> Sequence[int]:
        # Ids rise with time, too; but numbers are sorted several times as fast as texts.
        order: Clauses = [{"createdAt": "desc"}, {"productId": "desc"}]
        return await self._named(PRODUCTS, prefixes, [], order, limit)

    # Names.

    async def _named(
        self,
        index: SearchIndex,
        prefixes: Sequence[str],
        among: Clauses,
        order: Clauses,
        limit: int,
    ) -> Sequence[int]:
        """The first in whose names each of these begins some word."""
        if await self._ranks_slowly():
            matching = filtered(among or [EVERYTHING])
            body = listed_with(["words"], matching, order, READ_HERE_MAX + 1)
            first = hits_of(await self._search(index, body))
            named = named_so(first, prefixes, limit)
            if len(named) == limit or len(first) <= READ_HERE_MAX:
                return named
            # Few of so many are named so: so there are few such words, which are soon found.
        matching = filtered([*among, *(begins("words", prefix) for prefix in prefixes)])
        found = await self._search(index, listed(matching, order, limit))
        return ids_of(found)

    # The words.

    async def unknown(self, kind: Kind, query: Query) -> Sequence[str]:
        clauses = guessable(kind, query)
        if not clauses:
            return ()
        index = INDEX_OF[kind]
        answers = await self._searches(index, [is_there(clause) for clause in clauses.values()])
        return [
            word
            for word, one in zip(clauses, answers, strict=True)
            if not one["hits"]["total"]["value"]
        ]

    # The indices.

    async def state(self, kind: Kind) -> IndexState:
        store = self._stores[kind]
        async with self._guard.call():
            try:
                served = [build for build in await store.builds() if build.served]
                if not served:
                    return IndexState(0, filled=0)
                positions = await store.positions(served[0].number)
            except IndexLost:
                return IndexState(0, filled=0)
            except SearchUnavailable as error:
                raise ServerFailed(str(error)) from error
        return IndexState(min(positions.values(), default=0), served[0].filled)

    async def refresh(self, kind: Kind) -> None:
        async with self._guard.call():
            try:
                await self._client.indices.refresh(index=INDEX_OF[kind].alias)
            except OpenSearchException as error:
                raise ServerFailed(str(error)) from error

    async def _newest(
        self,
        index: SearchIndex,
        matching: Body,
        before: int,
        limit: int,
        without: Collection[int],
    ) -> Sequence[int]:
        field = index.id_field
        body = listed(leaving_out(matching, field, without), [{field: "desc"}], limit)
        if before != OPEN:
            body["search_after"] = [id_text(before)]
        found = await self._search(index, body)
        return [known_id_number(hit["sort"][0]) for hit in hits_of(found)]

    async def _ranks_slowly(self) -> bool:
        """Whether the server takes long for each hit that it ranks, and ranks all that match."""
        if self._is_osmem is None:
            # What is known is not asked again: the guard would take that for an answer.
            async with self._answering():
                self._is_osmem = await Osmem(self._client).serves()
        return self._is_osmem

    async def _search(self, index: SearchIndex, body: Body, weighing: str = BY_SLICE) -> Any:
        async with self._answering():
            return whole(
                await self._client.search(
                    index=index.alias,
                    body={**body, "timeout": self._patience},
                    filter_path=ONE,
                    search_type=weighing,
                )
            )

    async def _searches(self, index: SearchIndex, bodies: Sequence[Body]) -> Sequence[Any]:
        """The answers to several questions, asked in one request."""
        lines = [line for body in bodies for line in ({}, {**body, "timeout": self._patience})]
        async with self._answering():
            answer = await self._client.msearch(
                index=index.alias, body=lines, filter_path=SEVERAL, search_type=BY_SLICE
            )
            return [whole(one) for one in answer["responses"]]

    @contextlib.asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """Ask inside of this. Raises `SearchUnanswered`, and what is a fault of ours."""
        async with self._guard.call():
            try:
                yield
            except RequestError:
                # It is alive, and did not understand us.
                raise
            except NotFoundError as error:
                raise SearchUnanswered("There is no search index yet.") from error
            except OpenSearchException as error:
                raise ServerFailed(str(error)) from error


def whole(answer: Any) -> Any:
    """An answer that everything asked for went into. Raises as the client does for one alone."""
    if "error" in answer:
        failure = HTTP_EXCEPTIONS.get(answer["status"], TransportError)
        raise failure(answer["status"], answer["error"]["type"], answer)
    if answer["timed_out"] or answer["_shards"]["failed"]:
        raise ServerFailed("only a part of the index answered")
    return answer


def ids_of(answer: Any) -> Sequence[int]:
    return [known_id_number(hit["sort"][1]) for hit in hits_of(answer)]


def hits_of(answer: Any) -> Sequence[Any]:
    """What was found; where nothing was, the answer does not speak of it."""
    found: Sequence[Any] = answer.get("hits", {}).get("hits", ())
    return found
