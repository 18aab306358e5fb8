"""Products with their live price and availability: one, and lists of them."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from infra.http.consistency import HEADER as POSITION_HEADER
from infra.http.entrance import HEADERS_KEY
from infra.http.lists import limit_of
from infra.http.openapi import Operation, Parameter, described
from infra.http.problems import invalid_parameter, not_found
from infra.ports.commerce_reads import ProductFilter
from infra.ports.log import OPEN
from query_api.market import Market, answer, number_of
from query_api.parameters import AS_OF, LIST_PARAMETERS, LOG_POSITION, Text, text_of
from query_api.shapes.commerce import ProductList, ProductPage
from query_api.walk import Walk

TAG = "Products"
PATH = "/api/products"
JSON = (b"content-type", b"application/json")
DIGITS_MAX = 15
Price = Annotated[int, Meta(ge=0, lt=10**DIGITS_MAX)]
FILTERS = (
    Parameter("category", Text, "Only products of exactly this category."),
    Parameter("shopId", Text, "Only products of this shop."),
    Parameter("minPrice", Price, "Only products that cost at least this, in minor units."),
    Parameter("maxPrice", Price, "Only products that cost at most this, in minor units."),
    Parameter("available", bool, "`true`: only what can be bought; `false`: only what cannot."),
)


class ProductEndpoint:
    """`GET /api/products/{productId}`, an ASGI application."""

    operation = Operation(
        summary="A product",
        tag=TAG,
        answers={200: ProductPage},
        parameters=[
            Parameter("productId", str, "The product's id.", where="path"),
            AS_OF,
            LOG_POSITION,
        ],
        refusals=(401, 404, 422, 503),
        login="optional",
    )

    def __init__(self, market: Market) -> None:
        self._market = market
        self._known = market.products.named

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        headers, name = scope[HEADERS_KEY], scope["path_params"]["productId"]
        found = None
        # Who asks with neither a session, a position nor a moment is answered from what is kept.
        if not scope["query_string"] and POSITION_HEADER not in headers:
            self._market.authenticator.identify(headers.get(b"authorization"))
            found = self._known(name)
        body = found.json if found is not None else await self._look(scope, name)
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [JSON, (b"content-length", b"%d" % len(body))],
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def _look(self, scope: Scope, name: str) -> bytes:
        market = self._market
        await market.anybody(scope["headers"])
        number = number_of(name)
        if number is None:
            raise not_found("product")
        at = await market.as_of(QueryParams(scope["query_string"]))
        if at is not None:
            found = (await market.products.read([number], at)).get(number)
        else:
            found = (await market.products.get([number])).get(number)
        if found is None:
            raise not_found("product")
        return found.json


def routes(market: Market, product: ProductEndpoint) -> list[Route]:
    @described(
        Operation(
            summary="Products for sale, newest first",
            tag=TAG,
            answers={200: ProductList},
            parameters=[*FILTERS, *LIST_PARAMETERS, AS_OF, LOG_POSITION],
            refusals=(401, 422, 503),
            login="optional",
        )
    )
    async def products(request: Request) -> Response:
        await market.anybody(request.scope["headers"])
        parameters = request.query_params
        limit = limit_of(parameters)
        wanted = filter_of(parameters)
        at = await market.as_of(parameters)
        walk = Walk(market.cursors, f"products {wanted} {at}", parameters)
        (before,) = walk.place([OPEN])
        rows = await market.reads.products_before(
            before, wanted, limit + 1, OPEN if at is None else at
        )
        cursor = walk.cursor([rows[limit - 1].product_id]) if len(rows) > limit else None
        page = ProductList(
            products=[one.page for one in await market.products.opened(rows[:limit])],
            next_cursor=cursor,
            has_more=cursor is not None,
        )
        return answer(page)

    return [
        Route(PATH, products),
        Route(f"{PATH}/{{productId}}", product, methods=["GET"]),
    ]


def filter_of(parameters: Mapping[str, str]) -> ProductFilter:
    shop = parameters.get("shopId")
    return ProductFilter(
        category=text_of(parameters, "category"),
        # What is no id is no shop's: nothing is found.
        shop_id=None if shop is None else number_of(shop) or 0,
        price_min=price_of(parameters, "minPrice"),
        price_max=price_of(parameters, "maxPrice"),
        available=truth_of(parameters, "available"),
    )


def price_of(parameters: Mapping[str, str], name: str) -> int | None:
    text = parameters.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        raise invalid_parameter(name, f"`{name}` is a number of minor units.")
    return int(text)


def truth_of(parameters: Mapping[str, str], name: str) -> bool | None:
    text = parameters.get(name)
    if text not in {None, "true", "false"}:
        raise invalid_parameter(name, f"`{name}` is true or false.")
    return None if text is None else text == "true"
