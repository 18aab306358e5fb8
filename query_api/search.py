"""`GET /api/search`: posts, accounts and products, found by what they say.

query → candidates (from the index) → hydrate (from the read tables) → filter → present: the index
says what may match and in which order; what is shown, and whether it is, is read as it is now.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.http.consistency import required_position
from infra.http.lists import choice_of, limit_of
from infra.http.openapi import AnyOf, Operation, Parameter, described
from infra.http.problems import invalid_parameter
from infra.ports.search_reads import ANYTHING, Kind, ProductFilters, ProductOrder, Query
from query_api.context import Context
from query_api.parameters import LIST_PARAMETERS, LOG_POSITION, TEXT_MAX, text_of
from query_api.products import FILTERS, price_of, truth_of
from query_api.search_kinds import Asked, Found, Members, Posts, Products
from query_api.searching.search_index import SearchIndex
from query_api.searching.search_lists import First, Page, Results, page_of
from query_api.searching.search_query import LENGTH_MAX, QueryInvalid, parse
from query_api.shapes.searching import FoundPosts, FoundProducts, FoundUsers, counts_of
from query_api.walk import Walk

TAG = "Discovery"
JSON = "application/json"
ABOUT = (
    'All words have to be there, in any of their forms; `"…"` is a phrase, `#tag` a tag, `@name` a '
    "mention, `-` in front of any of these leaves out; posts also `from:name`, `since:` and "
    "`until:` a day. Where nothing is found, what is spelt almost like the words that nothing has "
    "is looked for. "
    "Where nothing has all the words, `match=most` finds what has all but one of them. "
    "Results by relevance begin with the best hundred; what else matches follows, newest first."
)
Match = Literal["all", "most"]
MATCHES: tuple[Match, ...] = ("all", "most")
KINDS: tuple[Kind, ...] = ("posts", "users", "products")
ORDERS: Mapping[Kind, tuple[ProductOrder, ...]] = {
    "posts": ("relevance", "newest"),
    "users": ("relevance",),
    "products": ("relevance", "price", "price_desc", "newest"),
}
ATTRIBUTES_MAX = 10

ATTRIBUTE = Parameter(
    "attribute",
    Annotated[str, msgspec.Meta(max_length=TEXT_MAX, pattern="^[^=]*=")],
    "Only products with this attribute, as `name=value`. It may be given several times: then one "
    "of the values of each name.",
)
PARAMETERS = (
    Parameter(
        "q",
        Annotated[str, msgspec.Meta(max_length=LENGTH_MAX)],
        "What to look for.",
        example='"red boots"',
    ),
    Parameter("type", Kind, "Where to look: `posts`, where it is not given."),
    Parameter(
        "sort",
        ProductOrder,
        "The order: `relevance` where it is not given; posts also `newest`, products all of these.",
    ),
    Parameter(
        "match",
        Match,
        "`all` words, where it is not given; or `most`: one of the single words may be missing.",
    ),
    *FILTERS,
    ATTRIBUTE,
)
NO_FILTERS = ProductFilters()
encode = msgspec.json.Encoder().encode


def asked(kind: Kind, parameters: QueryParams) -> Asked:
    """Raises a 422 problem for what is not in the language, or does not fit the kind."""
    text = parameters.get("q", "")
    order = choice_of(parameters, "sort", ORDERS[kind])
    limit = limit_of(parameters)
    most = choice_of(parameters, "match", MATCHES) == "most"
    browsing = kind == "products" and not text.strip() and is_filtered(parameters)
    try:
        query = ANYTHING if browsing else replace(parse(text), most=most)
    except QueryInvalid as error:
        raise invalid_parameter("q", str(error)) from None
    if kind != "posts" and is_about_posts(query):
        raise invalid_parameter("q", "`from:`, `since:` and `until:` are for posts.")
    if query is ANYTHING or (kind == "posts" and not query.is_text):
        # Nothing matches better than anything else.
        order = "newest" if order == "relevance" else order
    filters = filters_of(parameters) if kind == "products" else NO_FILTERS
    return Asked(text, query, order, filters, limit)


def is_filtered(parameters: Mapping[str, str]) -> bool:
    return any(one.name in parameters for one in (*FILTERS, ATTRIBUTE))


def is_about_posts(query: Query) -> bool:
    return bool(query.wanted.authors or query.unwanted.authors or query.since or query.until)


def filters_of(parameters: QueryParams) -> ProductFilters:
    values: dict[str, dict[str, None]] = {}
    for pair in parameters.getlist(ATTRIBUTE.name):
        name, sign, value = pair.partition("=")
        if not sign or len(pair) > TEXT_MAX:
            raise invalid_parameter(ATTRIBUTE.name, "`attribute` is `name=value`.")
        values.setdefault(name, {})[value] = None
    if sum(map(len, values.values())) > ATTRIBUTES_MAX:
        raise invalid_parameter(
            ATTRIBUTE.name, f"`attribute` is given {ATTRIBUTES_MAX} times at most."
        )
    return ProductFilters(
        category=text_of(parameters, "category"),
        shop_id=text_of(parameters, "shopId"),
        price_min=price_of(parameters, "minPrice"),
        price_max=price_of(parameters, "maxPrice"),
        available=truth_of(parameters, "available"),
        attributes=tuple(sorted((name, tuple(sorted(found))) for name, found in values.items())),
    )


def routes(context: Context, index: SearchIndex, products: Products) -> list[Route]:
    kinds: Mapping[Kind, Found[Any]] = {
        "posts": Posts(context, index),
        "users": Members(context, index),
        "products": products,
    }

    @described(
        Operation(
            summary="Posts, accounts or products, found by what they say",
            tag=TAG,
            answers={200: AnyOf((FoundPosts, FoundUsers, FoundProducts))},
            parameters=[*PARAMETERS, *LIST_PARAMETERS, LOG_POSITION],
            refusals=(401, 422, 503),
            login="optional",
            description=ABOUT,
        )
    )
    async def search(request: Request) -> Response:
        parameters = request.query_params
        kind = choice_of(parameters, "type", KINDS)
        wanted, found = asked(kind, parameters), kinds[kind]
        viewer = await context.reader(request.scope["headers"])
        await index.reach(kind, required_position(request.scope["headers"]))
        words = f"{'most' if wanted.query.most else 'all'} of {wanted.text}"
        named = f"search {kind} {viewer.id} {wanted.order} {wanted.filters} {words}"
        walk = Walk(context.cursors, named, parameters)
        results, first = await begun(found, kind, index, wanted, walk)
        listing = found.listing(wanted.query.guessing(results.guesses), wanted)
        candidates = None if first is None else first.candidates
        page = await page_of(results, candidates, listing, found.visible(viewer), wanted.limit)
        parts = [b'{"results":', await found.json(page.shown, viewer)]
        if first is not None and first.facets is not None:
            parts += [b',"facets":', encode(counts_of(first.facets))]
        parts.append(end(page, walk))
        if await index.degraded(kind):
            parts.append(b',"degraded":true')
            if (filled := await index.filled(kind)) is not None:
                parts.append(b',"filled":%s' % encode(filled))
        return Response(b"".join([*parts, b"}"]), media_type=JSON)

    return [Route("/api/search", search)]


async def begun(
    found: Found[Any], kind: Kind, index: SearchIndex, wanted: Asked, walk: Walk
) -> tuple[Results, First | None]:
    """Where the walk is, or where it begins and what it begins with: by the words asked for, or,
    where nothing has all of these, by what is spelt much like those that nothing has at all."""
    numbers = walk.place(())
    if numbers:
        return Results.of(numbers), None
    query = wanted.query
    first = await found.first(query, wanted)
    if first.any_there:
        index.learn(kind, query.spoken)
    elif unknown := await index.unknown(kind, query):
        query = replace(query, misspelt=tuple(unknown))
        first = await found.first(query, wanted)
    return Results(query.guesses, (), found.start), first


def end(page: Page[Any], walk: Walk) -> bytes:
    if page.next is None:
        return b',"nextCursor":null,"hasMore":false'
    return b',"nextCursor":"%b","hasMore":true' % page.next.cursor(walk).encode()
