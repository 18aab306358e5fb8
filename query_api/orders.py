"""Orders, as their buyer and as their seller see them. To everybody else they do not exist."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.commerce.order.events import OrderLine
from domain.shared.identifiers import id_number, id_text
from infra.http.lists import choice_of, limit_of
from infra.http.openapi import Operation, Parameter, described
from infra.http.problems import not_found
from infra.ports.commerce_reads import Moment, OrderRow
from infra.ports.log import OPEN
from query_api.market import Market, answer, id_in_path
from query_api.parameters import LIST_PARAMETERS, LOG_POSITION
from query_api.shapes.commerce import (
    OrderItem,
    OrderList,
    OrderPage,
    Payment,
    Shipment,
    Since,
    amount,
    money,
)
from query_api.walk import Walk

TAG = "Orders"
Role = Literal["buyer", "seller"]
ROLES = get_args(Role)
Titles = Mapping[tuple[int, str], str | None]
"""What was bought by which order, by the order's number and the product's id."""

_decode_lines = msgspec.json.Decoder(list[OrderLine]).decode


def routes(market: Market) -> list[Route]:
    @described(
        Operation(
            summary="An order that one has bought or sold",
            tag=TAG,
            answers={200: OrderPage},
            parameters=[Parameter("orderId", str, "The order's id.", where="path"), LOG_POSITION],
            refusals=(401, 404, 422, 503),
        )
    )
    async def order(request: Request) -> Response:
        member = id_number(await market.member(request.scope["headers"]))
        found = await market.reads.order(id_in_path(request, "orderId", "order"))
        if found is None or member not in {found[0].member_id, found[0].seller_id}:
            raise not_found("order")
        return answer((await pages_of([found], market))[0])

    @described(
        Operation(
            summary="Orders that one has bought or sold, newest first",
            tag=TAG,
            answers={200: OrderList},
            parameters=[
                Parameter("role", Role, "`buyer` is the default."),
                *LIST_PARAMETERS,
                LOG_POSITION,
            ],
            refusals=(401, 422, 503),
        )
    )
    async def orders(request: Request) -> Response:
        member_id = await market.member(request.scope["headers"])
        limit = limit_of(request.query_params)
        role = choice_of(request.query_params, "role", ROLES)
        walk = Walk(market.cursors, f"orders {member_id} {role}", request.query_params)
        (before,) = walk.place([OPEN])
        member = id_number(member_id)
        found = await market.reads.orders_before(
            before,
            limit + 1,
            buyer_id=member if role == "buyer" else None,
            seller_id=member if role == "seller" else None,
        )
        cursor = walk.cursor([found[limit - 1][0].order_id]) if len(found) > limit else None
        page = OrderList(
            orders=await pages_of(found[:limit], market),
            next_cursor=cursor,
            has_more=cursor is not None,
        )
        return answer(page)

    return [Route("/api/orders", orders), Route("/api/orders/{orderId}", order)]


async def pages_of(
    found: Sequence[tuple[OrderRow, Sequence[Moment]]], market: Market
) -> list[OrderPage]:
    lines = {row.order_id: _decode_lines(row.lines) for row, _ in found}
    titles = await titles_of(lines, market)
    return [page_of(row, lines[row.order_id], titles, history) for row, history in found]


async def titles_of(lines: Mapping[int, Sequence[OrderLine]], market: Market) -> Titles:
    bought = [(order, id_number(line.product_id)) for order in lines for line in lines[order]]
    rows = await market.reads.titles(bought) if bought else ()
    await market.keyring.fetch({id_text(row.seller_id) for row in rows})
    return {
        (row.order_id, id_text(row.product_id)): market.keyring.open(
            id_text(row.seller_id), row.title
        )
        for row in rows
    }


def page_of(
    row: OrderRow, lines: Sequence[OrderLine], titles: Titles, history: Sequence[Moment]
) -> OrderPage:
    shipment = None
    if row.carrier is not None:
        shipment = Shipment(row.carrier, row.tracking_number or "")
    return OrderPage(
        order_id=id_text(row.order_id),
        checkout_id=id_text(row.checkout_id),
        shop_id=id_text(row.shop_id),
        status=row.status,
        items=[item_of(line, titles.get((row.order_id, line.product_id))) for line in lines],
        total=money(row.currency, row.total),
        payment=Payment(
            payment_status(row),
            money(row.currency, row.total),
            money(row.currency, row.captured),
            money(row.currency, row.refunded),
        ),
        history=[Since(moment.status, moment.at) for moment in history],
        shipment=shipment or UNSET,
    )


def item_of(line: OrderLine, title: str | None) -> OrderItem:
    return OrderItem(
        product_id=line.product_id,
        title=title,
        quantity=line.quantity,
        price=amount(line.price),
        source_post_id=line.source_post_id or UNSET,
    )


def payment_status(row: OrderRow) -> str:
    if row.problem is not None:
        return row.problem
    if row.captured == 0:
        return "authorised"
    return "refunded" if row.refunded >= row.captured else "captured"
