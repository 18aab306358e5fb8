"""`GET /api/typeahead`: what one may be about to type, as one types it.

Each keystroke asks anew, so a request that its client has given up is given up here too, down to
the search server.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.shared.identifiers import id_text
from domain.shared.text import case_folded, words
from infra.http.bodies import ClientGone
from infra.http.consistency import required_position
from infra.http.openapi import Operation, Parameter, described
from infra.http.problems import invalid_parameter
from infra.ports.discovery import TagCount, TagReads
from infra.ports.log import OPEN
from query_api.caches.flights import Flights
from query_api.context import Context
from query_api.market import Market
from query_api.parameters import LOG_POSITION
from query_api.profiles import profiles
from query_api.searching.search_index import SearchIndex
from query_api.shapes.social import Profile
from query_api.timelines.viewers import NOBODY, Viewer

LENGTH_MAX = 100
WORDS_MAX = 5
ACCOUNTS_MAX = TAGS_MAX = PRODUCTS_MAX = 5
SPARE = 10
"""So many more accounts are looked up, since not all can be seen by everybody."""

FOLLOWEES_MAX = 2_000
FOLLOWEES_SECONDS = 10.0
FOLLOWEES_KEPT_MAX = 5_000

T = TypeVar("T")
encode = msgspec.json.Encoder().encode


class ProductTitle(Struct, frozen=True, rename="camel"):
    product_id: str
    title: str


class Completions(Struct, frozen=True, kw_only=True):
    """Accounts that the reader follows come first, then those with most followers."""

    accounts: list[Profile]
    hashtags: list[TagCount]
    products: list[ProductTitle]
    degraded: bool | UnsetType = UNSET


class Typed(NamedTuple):
    """What was typed: the beginnings of words, or of a tag, or of an account's name."""

    sign: str
    prefixes: tuple[str, ...]
    tag: str


def typed(text: str) -> Typed:
    """Raises a 422 problem for what is too long or holds no letter or digit."""
    if len(text) > LENGTH_MAX:
        raise invalid_parameter("q", f"`q` has {LENGTH_MAX} characters at most.")
    plain = case_folded(text).strip()
    sign = plain[:1] if plain[:1] in {"#", "@"} else ""
    found = tuple(dict.fromkeys(words(plain)))
    if not found:
        raise invalid_parameter("q", "Give at least one letter or digit.")
    if len(found) > WORDS_MAX:
        raise invalid_parameter("q", f"`q` has {WORDS_MAX} words at most.")
    tag = plain.removeprefix(sign) if len(found) == 1 else ""
    return Typed(sign, found, tag)


class Typeahead:
    """`market` is None where nothing is sold, `tags` where nobody knows which are used."""

    def __init__(
        self, context: Context, index: SearchIndex, market: Market | None, tags: TagReads | None
    ) -> None:
        self._context = context
        self._index = index
        self._market = market
        self._tags = tags
        self._followees = Flights(FOLLOWEES_SECONDS, FOLLOWEES_KEPT_MAX)

    async def completions(self, what: Typed, viewer: Viewer, position: int) -> Completions:
        accounts, hashtags, products = await asyncio.gather(
            self._accounts(what, viewer), self._hashtags(what, position), self._products(what)
        )
        return Completions(
            accounts=accounts,
            hashtags=hashtags,
            products=products,
            degraded=(what.sign != "#" and await self._index.degraded("users")) or UNSET,
        )

    async def _accounts(self, what: Typed, viewer: Viewer) -> list[Profile]:
        if what.sign == "#":
            return []
        popular, followed = await asyncio.gather(self._popular(what), self._followed(what, viewer))
        candidates = list(dict.fromkeys([*followed, *popular]))
        shown = await profiles(self._context, viewer, candidates)
        by_id = {profile.id: profile for profile in shown}
        # Where an account was unfollowed a moment ago, it takes its place among the others.
        ordered = [by_id[name] for number in candidates if (name := id_text(number)) in by_id]
        ordered.sort(key=lambda profile: profile.following is not True)
        return ordered[:ACCOUNTS_MAX]

    async def _popular(self, what: Typed) -> Sequence[int]:
        return await self._index.ask(
            ("accounts", what.prefixes),
            lambda: self._index.reads.members_named(what.prefixes, ACCOUNTS_MAX + SPARE),
        )

    async def _followed(self, what: Typed, viewer: Viewer) -> Sequence[int]:
        if viewer is NOBODY:
            return ()
        followees = await self._followees.get(
            viewer.number,
            lambda: self._context.reads.followees(viewer.number, OPEN - 1, OPEN, FOLLOWEES_MAX),
        )
        if not followees:
            return ()
        among = [edge.member_id for edge in followees]
        return await self._index.ask(
            ("accounts", what.prefixes, viewer.number),
            lambda: self._index.reads.members_named(what.prefixes, ACCOUNTS_MAX, among),
        )

    async def _hashtags(self, what: Typed, position: int) -> list[TagCount]:
        if what.sign == "@" or not what.tag or self._tags is None:
            return []
        return list(await self._tags.prefix(what.tag, TAGS_MAX, position))

    async def _products(self, what: Typed) -> list[ProductTitle]:
        if what.sign or self._market is None:
            return []
        found = await self._index.ask(
            ("titles", what.prefixes),
            lambda: self._index.reads.products_named(what.prefixes, PRODUCTS_MAX + SPARE),
        )
        # The index knows words of titles; what they are, and whether it is still for sale, is read.
        products = await self._market.products.get(found)
        shown = [products[number].page for number in found if number in products]
        for_sale = [ProductTitle(page.product_id, page.title) for page in shown if page.for_sale]
        return for_sale[:PRODUCTS_MAX]


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, which is given up when the client hangs up. Raises `ClientGone`."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(hung_up(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def routes(
    context: Context, index: SearchIndex, market: Market | None, tags: TagReads | None
) -> list[Route]:
    completing = Typeahead(context, index, market, tags)

    @described(
        Operation(
            summary="Accounts, hashtags and products whose names go on as typed",
            tag="Discovery",
            answers={200: Completions},
            parameters=[
                Parameter(
                    "q",
                    str,
                    "The beginning of any word of a name. With `#` only hashtags are looked for, "
                    "with `@` only accounts.",
                    example="an",
                ),
                LOG_POSITION,
            ],
            refusals=(401, 422, 503),
            login="optional",
        )
    )
    async def typeahead(request: Request) -> Response:
        what = typed(request.query_params.get("q", ""))
        viewer = await context.reader(request.scope["headers"])
        position = required_position(request.scope["headers"])
        if what.sign != "#":
            await index.reach("users", position)
        completions = await unless_gone(request, completing.completions(what, viewer, position))
        return Response(encode(completions), media_type="application/json")

    return [Route("/api/typeahead", typeahead)]
