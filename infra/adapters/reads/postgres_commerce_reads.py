"""The commerce half's read tables in PostgreSQL: every query that its pages and processes make.

A row holds from `since` up to, but not at, `until`.
"""
# ruff: noqa: S608 -- what is composed into these texts are constants of this module.

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import psycopg
import structlog

from infra.adapters.reads.postgres_reads import Connections, PostgresReads
from infra.adapters.reads.together import Together
from infra.formats.codec import EVENT_CLASSES
from infra.ports.commerce_reads import (
    CartRow,
    CheckoutRow,
    Moment,
    OrderRow,
    Problem,
    ProductFilter,
    ProductRow,
    TitleRow,
    WorkRow,
)
from infra.ports.frames import COMMERCE_PARTITIONS, is_commerce
from infra.ports.log import OPEN, LogUnavailable
from infra.ports.reads import ReadsUnavailable

CONNECTIONS_MAX = 6

log = structlog.get_logger(__name__)

CHECKPOINTS = """
SELECT c.projection, c.partition, c.position FROM public.checkpoints c
JOIN public.projection_builds b ON b.name = c.projection AND b.build = c.build
WHERE b.status = 'live' AND c.projection = ANY(%(projections)s)
"""

PRODUCT = """
SELECT p.product_id, p.shop_id, p.seller_id, s.name, p.title, p.description, p.category,
       p.currency, p.price, p.media_urls, p.attributes, p.for_sale, {available}
FROM products p LEFT JOIN shops s ON s.shop_id = p.shop_id
"""
AVAILABLE_NOW = """
coalesce((SELECT a.available FROM availability a WHERE a.product_id = p.product_id), 0)
"""
AVAILABLE_THEN = """
coalesce((SELECT sum(m.units) FROM availability_moves m
          WHERE m.product_id = p.product_id AND m.since <= %(at)s), 0)::bigint
"""
PRODUCTS_NOW = (
    PRODUCT.format(available=AVAILABLE_NOW)
    + f"WHERE p.product_id = ANY(%(ids)s) AND p.until = {OPEN}"
)
PRODUCTS_THEN = (
    PRODUCT.format(available=AVAILABLE_THEN)
    + "WHERE p.product_id = ANY(%(ids)s) AND p.since <= %(at)s AND p.until > %(at)s"
)
LISTED = """
  AND p.for_sale AND p.product_id < %(before)s
  AND (%(category)s::text IS NULL OR p.category = %(category)s)
  AND (%(shop)s::bigint IS NULL OR p.shop_id = %(shop)s)
  AND (%(price_min)s::bigint IS NULL OR p.price >= %(price_min)s)
  AND (%(price_max)s::bigint IS NULL OR p.price <= %(price_max)s)
"""
LIST = """
SELECT * FROM ({products} {listed} ORDER BY p.product_id DESC {first}) AS found
WHERE %(available)s::boolean IS NULL OR (found.available > 0) = %(available)s
ORDER BY product_id DESC LIMIT %(limit)s
"""


def listing(available: str, holds: str, *, filtered: bool) -> str:
    # Where availability does not matter, no more products are looked at than are shown.
    named = PRODUCT.format(available=f"{available} AS available")
    first = "" if filtered else "LIMIT %(limit)s"
    return LIST.format(products=f"{named} WHERE {holds}", listed=LISTED, first=first)


HOLDS_NOW, HOLDS_THEN = f"p.until = {OPEN}", "p.since <= %(at)s AND p.until > %(at)s"

AVAILABLE = "SELECT product_id, available FROM availability WHERE product_id = ANY(%(ids)s)"

CART = f"""
SELECT product_id, quantity, seen_currency, seen_price, source_post_id FROM cart_lines
WHERE member_id = %(member)s AND until = {OPEN} ORDER BY since, product_id
"""

CHECKOUT = f"""
SELECT checkout_id, member_id, order_ids, status, action, failure_code, failure_detail
FROM checkouts WHERE checkout_id = %(checkout)s AND until = {OPEN}
"""
CHECKOUT_STEPS = """
SELECT name, status, at FROM checkout_steps WHERE checkout_id = %(checkout)s ORDER BY since, name
"""
CHECKOUTS = f"""
SELECT checkout_id, status, member_id FROM checkouts
WHERE until = {OPEN} AND (%(status)s::text IS NULL OR status = %(status)s)
ORDER BY checkout_id DESC LIMIT %(limit)s
"""

ORDER = """
SELECT o.order_id, o.checkout_id, o.member_id, o.seller_id, o.shop_id, o.status, o.lines,
       o.currency, o.total, o.captured, coalesce(r.refunded, 0), o.carrier, o.tracking_number,
       o.problem
FROM orders o LEFT JOIN order_refunds r ON r.order_id = o.order_id
"""
ONE_ORDER = ORDER + f"WHERE o.order_id = %(order)s AND o.until = {OPEN}"
ORDERS_OF = (
    ORDER
    + "WHERE o.{party} = %(member)s AND o.order_id < %(before)s"
    + f" AND o.until = {OPEN} ORDER BY o.order_id DESC LIMIT %(limit)s"
)
ORDERS_BOUGHT = ORDERS_OF.format(party="member_id")
ORDERS_SOLD = ORDERS_OF.format(party="seller_id")
ORDER_HISTORIES = """
SELECT order_id, status, at FROM order_history WHERE order_id = ANY(%(orders)s) ORDER BY since
"""
# The buyer saw what the product was called when the checkout began.
TITLES = f"""
SELECT o.order_id, p.product_id, p.seller_id, p.title
FROM unnest(%(orders)s::bigint[], %(products)s::bigint[]) AS bought(order_id, product_id)
JOIN orders o ON o.order_id = bought.order_id AND o.until = {OPEN}
JOIN LATERAL (SELECT min(c.since) AS position FROM checkouts c
              WHERE c.checkout_id = o.checkout_id) began ON true
JOIN products p ON p.product_id = bought.product_id
     AND p.since <= began.position AND p.until > began.position
"""
PROBLEMS = f"""
SELECT checkout_id, order_id, problem FROM orders WHERE problem IS NOT NULL AND until = {OPEN}
UNION ALL
SELECT checkout_id, NULL, problem FROM checkouts WHERE problem IS NOT NULL AND until = {OPEN}
UNION ALL
SELECT checkout_id, NULL, 'capture_unconfirmed' FROM checkouts WHERE unconfirmed AND until = {OPEN}
UNION ALL
SELECT o.checkout_id, o.order_id, 'refund_unconfirmed'
FROM unconfirmed_refunds u JOIN orders o ON o.order_id = u.order_id AND o.until = {OPEN}
WHERE u.until = {OPEN}
ORDER BY 1, 2
"""

HAPPENED = """
SELECT EXISTS (
    SELECT FROM log.events
    WHERE notification_id > %(after)s AND notification_id <= %(last)s AND topic = ANY(%(tags)s))
"""
TAGS = [tag for tag, kind in EVENT_CLASSES.items() if is_commerce(kind)]

WORK = f"SELECT kind, subject, task, due_at FROM work WHERE until = {OPEN} ORDER BY since"


class Questions:
    """Asks on a few connections, and again on new ones where the first were dead or outdated."""

    def __init__(self, url: str, size: int) -> None:
        self.connections = Connections(url, size)

    async def close(self) -> None:
        await self.connections.close()

    async def rows(self, statement: str, **parameters: Any) -> list[Any]:
        return (await self.all((statement,), parameters))[0]

    async def all(
        self, statements: Sequence[str], parameters: Mapping[str, Any]
    ) -> list[list[Any]]:
        """The rows of each statement, all asked in one round trip. Raises `ReadsUnavailable`."""
        try:
            return await self._ask(statements, parameters)
        except psycopg.errors.UndefinedTable:
            # Another build was switched to.
            self.connections.look_again()
        except psycopg.OperationalError:
            # The server restarted.
            await self.connections.renew()
        try:
            return await self._ask(statements, parameters)
        except psycopg.Error as error:
            log.warning("commerce_reads.unavailable", error=str(error))
            raise ReadsUnavailable(str(error)) from error

    async def _ask(
        self, statements: Sequence[str], parameters: Mapping[str, Any]
    ) -> list[list[Any]]:
        async with self.connections.take() as connection:
            cursors = [connection.cursor(binary=True) for _ in statements]
            async with connection.pipeline():
                for cursor, statement in zip(cursors, statements, strict=True):
                    await cursor.execute(statement, parameters)
            return [await cursor.fetchall() for cursor in cursors]


class PostgresCommerceReads:
    """`infra.ports.commerce_reads.CommerceReads` over PostgreSQL."""

    def __init__(self, url: str, connections_max: int = CONNECTIONS_MAX) -> None:
        self._ask = Questions(url, connections_max)
        self._available = Together(self._available_all)
        self.connections = self._ask.connections
        self._log = PostgresReads(url, connections_max=1)
        self.position_at = self._log.position_at
        self.head = self._log.head

    async def close(self) -> None:
        await self._ask.close()
        await self._log.close()

    async def renew(self, switched: str = "") -> None:
        self.connections.look_again(switched)
        await self._log.renew()

    async def checkpoints(self, projections: Collection[str]) -> Mapping[str, Mapping[int, int]]:
        found = {name: dict.fromkeys(COMMERCE_PARTITIONS, 0) for name in projections}
        rows = await self._ask.rows(CHECKPOINTS, projections=list(projections))
        for name, partition, position in rows:
            found[name][partition] = position
        return found

    async def available(self, product_ids: Collection[int]) -> Mapping[int, int]:
        """Units that can be bought; a product never stocked is left out."""
        return await self._available.ask_many(product_ids)

    async def _available_all(self, product_ids: Sequence[int]) -> Mapping[int, int]:
        return dict(await self._ask.rows(AVAILABLE, ids=list(product_ids)))

    async def products(
        self, product_ids: Collection[int], position: int = OPEN
    ) -> Sequence[ProductRow]:
        statement = PRODUCTS_NOW if position == OPEN else PRODUCTS_THEN
        rows = await self._ask.rows(statement, ids=list(product_ids), at=position)
        return [ProductRow(*row) for row in rows]

    async def products_before(
        self, product_id: int, wanted: ProductFilter, limit: int, position: int = OPEN
    ) -> Sequence[ProductRow]:
        filtered = wanted.available is not None
        statement = (
            listing(AVAILABLE_NOW, HOLDS_NOW, filtered=filtered)
            if position == OPEN
            else listing(AVAILABLE_THEN, HOLDS_THEN, filtered=filtered)
        )
        rows = await self._ask.rows(
            statement,
            before=product_id,
            at=position,
            limit=limit,
            category=wanted.category,
            shop=wanted.shop_id,
            price_min=wanted.price_min,
            price_max=wanted.price_max,
            available=wanted.available,
        )
        return [ProductRow(*row) for row in rows]

    async def happened(self, after: int, last: int) -> bool:
        rows = await self._ask.rows(HAPPENED, after=after, last=last, tags=TAGS)
        return bool(rows[0][0])

    async def cart(self, member_id: int) -> Sequence[CartRow]:
        return [CartRow(*row) for row in await self._ask.rows(CART, member=member_id)]

    async def checkout(self, checkout_id: int) -> tuple[CheckoutRow, Sequence[Moment]] | None:
        rows, steps = await self._ask.all((CHECKOUT, CHECKOUT_STEPS), {"checkout": checkout_id})
        if not rows:
            return None
        return CheckoutRow(*rows[0]), [Moment(*step) for step in steps]

    async def order(self, order_id: int) -> tuple[OrderRow, Sequence[Moment]] | None:
        rows, history = await self._ask.all(
            (ONE_ORDER, ORDER_HISTORIES), {"order": order_id, "orders": [order_id]}
        )
        if not rows:
            return None
        return OrderRow(*rows[0]), [Moment("", status, at) for _, status, at in history]

    async def orders_before(
        self, order_id: int, limit: int, *, buyer_id: int | None, seller_id: int | None
    ) -> Sequence[tuple[OrderRow, Sequence[Moment]]]:
        statement, member = (
            (ORDERS_SOLD, seller_id) if buyer_id is None else (ORDERS_BOUGHT, buyer_id)
        )
        rows = await self._ask.rows(statement, member=member, before=order_id, limit=limit)
        orders = [OrderRow(*row) for row in rows]
        numbers = [order.order_id for order in orders]
        histories: defaultdict[int, list[Moment]] = defaultdict(list)
        for number, status, at in await self._ask.rows(ORDER_HISTORIES, orders=numbers):
            histories[number].append(Moment("", status, at))
        return [(order, histories[order.order_id]) for order in orders]

    async def titles(self, bought: Collection[tuple[int, int]]) -> Sequence[TitleRow]:
        orders, products = zip(*bought, strict=True) if bought else ((), ())
        rows = await self._ask.rows(TITLES, orders=list(orders), products=list(products))
        return [TitleRow(*row) for row in rows]

    async def checkouts_of(self, status: str | None, limit: int) -> Sequence[tuple[int, str, int]]:
        return await self._ask.rows(CHECKOUTS, status=status, limit=limit)

    async def problems(self) -> Sequence[Problem]:
        return [Problem(*row) for row in await self._ask.rows(PROBLEMS)]


class PostgresOpenWork:
    """`infra.ports.commerce_reads.OpenWork` over PostgreSQL."""

    def __init__(self, url: str) -> None:
        self._ask = Questions(url, 1)

    async def close(self) -> None:
        await self._ask.close()

    async def rows(self) -> tuple[Sequence[WorkRow], int]:
        try:
            # How far comes first: what is written in between is then seen twice, and never missed.
            checkpoints = await self._ask.rows(CHECKPOINTS, projections=["work"])
            rows = await self._ask.rows(WORK)
        except ReadsUnavailable as error:
            raise LogUnavailable(str(error)) from error
        known = {partition: position for _, partition, position in checkpoints}
        return (
            [WorkRow(*row) for row in rows],
            min(known.get(partition, 0) for partition in COMMERCE_PARTITIONS),
        )
