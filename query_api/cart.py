"""One's own cart, at current prices, with what keeps an item from being bought."""

from collections.abc import Mapping, Sequence

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.commerce.cart.events import CartItem
from domain.commerce.cart.problems import Offer, problems
from domain.shared.identifiers import id_number, id_text
from domain.shared.money import Money, total
from infra.http.openapi import Operation, described
from infra.ports.commerce_reads import CartRow
from query_api.market import Market, answer
from query_api.parameters import LOG_POSITION
from query_api.shapes.commerce import CartLine, CartPage, ProductPage, amount

TAG = "Cart"
NOTHING = Money("EUR", 0)


def routes(market: Market) -> list[Route]:
    @described(
        Operation(
            summary="One's cart",
            tag=TAG,
            answers={200: CartPage},
            parameters=[LOG_POSITION],
            refusals=(401, 422, 503),
        )
    )
    async def cart(request: Request) -> Response:
        member_id = await market.member(request.scope["headers"])
        rows = await market.reads.cart(id_number(member_id))
        products = await market.products.read([row.product_id for row in rows])
        return answer(page_of(rows, {number: one.page for number, one in products.items()}))

    return [Route("/api/cart", cart)]


def page_of(rows: Sequence[CartRow], products: Mapping[int, ProductPage]) -> CartPage:
    lines = [line_of(row, products.get(row.product_id)) for row in rows]
    sums = [
        Money(line.line_total.currency, line.line_total.value)
        for line in lines
        if line.line_total is not None and not is_unavailable(line)
    ]
    if len({one.currency for one in sums}) > 1:
        return CartPage(items=lines, total=None)
    return CartPage(items=lines, total=amount(total(sums) if sums else NOTHING))


def is_unavailable(line: CartLine) -> bool:
    return any(problem.code == "unavailable" for problem in line.problems)


def line_of(row: CartRow, product: ProductPage | None) -> CartLine:
    item = CartItem(
        product_id=id_text(row.product_id),
        quantity=row.quantity,
        seen_price=Money(row.seen_currency, row.seen_price),
    )
    price = None if product is None else Money(product.price.currency, product.price.value)
    offer = None
    if product is not None and price is not None:
        offer = Offer(price, product.available, for_sale=product.for_sale)
    return CartLine(
        product_id=item.product_id,
        title=None if product is None else product.title,
        quantity=row.quantity,
        price=None if price is None else amount(price),
        line_total=None if price is None else amount(price * row.quantity),
        problems=problems(item, offer),
        source_post_id=row.source_post_id or UNSET,
    )
