"""Members with full carts before a running command service, and a worker that sells to them."""

import asyncio
import contextlib
import itertools
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
import psycopg
import uvloop
from prometheus_client import CollectorRegistry

from domain.commerce.cart.commands import PutCartItem
from domain.commerce.cart.events import CartItem
from domain.commerce.payment.commands import RecordNotification
from domain.commerce.payment.events import PaymentNotified
from domain.commerce.product.commands import ListProduct
from domain.commerce.shop.commands import OpenShop
from domain.commerce.stock.commands import ReceiveStock
from domain.shared.money import Money
from infra.adapters.migrations import migrate
from infra.adapters.tables.postgres_projections import PostgresProjections
from infra.composition.logging import configure_logging
from infra.composition.services import command_api, commerce_worker, projection_worker
from infra.composition.services.command_api import opened
from infra.composition.services.tasks import COMMERCE_PROCESSES, halves
from infra.composition.settings import Settings
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.ports.log import LogUnavailable
from infra.ports.payments import (
    Accepted,
    Answer,
    Authorise,
    Authorised,
    Capture,
    PaymentRequest,
    Refused,
)
from infra.runtime.commands.execute import Executor
from infra.runtime.projecting.appliers import ApplierMetrics
from infra.runtime.rebuilding.rebuild import rare_collections
from infra.servers.adyen_stand_in import adyen_program
from infra.servers.postgres import start_postgres
from infra.servers.process import free_port, start
from projections import members, sessions
from tests.benchmarks.feed_world import served
from tests.benchmarks.members import MADE_AT_ONCE, executor_of, logged_in, new_id
from tests.market import ADDRESS

T = TypeVar("T")

BUYERS = 600
SKUS = 200
BUYERS_AT_ONCE = 64
WAIT_SECONDS = 60.0
PRICE = Money("EUR", 1999)
UNITS = 1_000_000
HMAC_KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
CONFIRMED = """
    SELECT count(*), max(notification_id) FROM log.events WHERE topic = 'checkout.confirmed.v1'
"""
SHOWN = """
    SELECT min(position) FROM public.checkpoints
    WHERE projection = ANY(%s) AND partition = ANY(%s)
"""
SHOWING = ["carts", "checkouts", "orders", "availability", "work", "demand"]
BODY = msgspec.json.encode(
    {
        "paymentMethod": {
            "type": "scheme",
            "holderName": "Ada",
            "encryptedCardNumber": "test_4111111111111111",
            "encryptedExpiryMonth": "test_03",
            "encryptedExpiryYear": "test_2030",
            "encryptedSecurityCode": "test_737",
        },
        "shippingAddress": ADDRESS,
    }
)


class AtOnce:
    """`Payments` that says yes in this process, and tells of captures as the provider would."""

    def __init__(self) -> None:
        self.execute: Any = None
        self._numbers = itertools.count(1)

    async def ask(self, request: PaymentRequest) -> Answer:
        reference = f"{secrets.token_hex(4)}{next(self._numbers)}"
        match request:
            case Authorise():
                return Authorised(reference)
            case Capture():
                told = PaymentNotified(
                    checkout_id=request.reference[:13],
                    event_code="CAPTURE",
                    success=True,
                    psp_reference=reference,
                    original_reference=request.psp_reference,
                    merchant_reference=request.reference,
                    amount=request.amount,
                    reason="",
                    event_date="",
                )
                await self.execute(RecordNotification(notification=told))
                return Accepted(reference)
            case _:
                return Refused("nothing else is asked here")


async def serve_commands(settings: Settings, ready: Callable[[int], None]) -> None:
    configure_logging("command-api", "warning")
    await command_api.serve(settings, ready)


async def serve_worker(settings: Settings, at_once: bool, ready: Callable[[int], None]) -> None:  # noqa: FBT001
    """The commerce worker as `plaza up` runs it, but for the payments where they are `at_once`."""
    configure_logging("worker", "warning")
    with rare_collections():
        await sell(settings, AtOnce() if at_once else None, ready)


async def sell(settings: Settings, payments: AtOnce | None, ready: Callable[[int], None]) -> None:
    metrics = ApplierMetrics(CollectorRegistry())
    async with asyncio.TaskGroup() as group:
        group.create_task(
            projection_worker.follow_commerce(settings, halves(None, None)[1].projections, metrics)
        )
        async with contextlib.AsyncExitStack() as stack:
            buying, runners, source = await once_there_are_tables(
                lambda: stack.enter_async_context(
                    commerce_worker.opened(settings, COMMERCE_PROCESSES, payments)
                )
            )
            if payments is not None:
                payments.execute = buying.sagas.execute
            follower = commerce_worker.follower_of(source, runners)
            group.create_task(buying.sagas.run())
            group.create_task(buying.holds.run())
            group.create_task(follower.run())
            ready(0)
            await asyncio.Event().wait()


async def once_there_are_tables(work: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await work()
        except LogUnavailable:
            await asyncio.sleep(0.1)


@dataclass
class Shoppers:
    """Members who are logged in; each buys one thing, once a round."""

    settings: Settings
    port: int
    tokens: list[str]
    ids: list[str]
    products: list[str]
    numbers: Any

    async def fill_carts(self) -> None:
        async with opened(self.settings) as resources:
            executor = executor_of(resources)
            for first in range(0, len(self.ids), MADE_AT_ONCE):
                buyers = self.ids[first : first + MADE_AT_ONCE]
                await asyncio.gather(
                    *(self._put(executor, buyer, first + n) for n, buyer in enumerate(buyers))
                )

    async def _put(self, executor: Executor, buyer: str, number: int) -> None:
        product = self.products[number % len(self.products)]
        # Another quantity than before, so that it is a change whatever was there.
        item = CartItem(product_id=product, quantity=1, seen_price=PRICE)
        await executor.execute(PutCartItem(member_id=buyer, item=item))

    async def buy(self) -> float:
        """Completed checkouts a second, from the first command until every page shows the last."""
        began, _ = await self._buy(0.0)
        return len(self.ids) / (time.perf_counter() - began)

    async def latencies(self, rate: float) -> list[float]:
        """Seconds until each checkout was answered with 202, where `rate` begin a second."""
        return (await self._buy(1 / rate))[1]

    async def _buy(self, pause_seconds: float) -> tuple[float, list[float]]:
        """When it began, and how long each command took; ends when every page shows the last
        confirmation, so that no write is left for later."""
        await self.fill_carts()
        number = next(self.numbers)
        took: list[float] = []
        async with await psycopg.AsyncConnection.connect(
            self.settings.postgres_url, autocommit=True
        ) as connection:
            before, _ = await confirmed(connection)
            began = time.perf_counter()
            room = asyncio.Semaphore(BUYERS_AT_ONCE)
            async with aiohttp.ClientSession() as http:

                async def check_out(place: int) -> None:
                    await asyncio.sleep(place * pause_seconds)
                    headers = {
                        "Authorization": f"Bearer {self.tokens[place]}",
                        "Idempotency-Key": f"{self.ids[place]}-{number}",
                        "Content-Type": "application/json",
                    }
                    url = f"http://127.0.0.1:{self.port}/api/checkouts"
                    asked = time.perf_counter()
                    async with room, http.post(url, data=BODY, headers=headers) as answer:
                        assert answer.status == 202, await answer.text()
                    took.append(time.perf_counter() - asked)

                await asyncio.gather(*map(check_out, range(len(self.ids))))
                while not await self._all_done(connection, before + len(self.ids)):
                    assert time.perf_counter() - began < WAIT_SECONDS, "not all are confirmed"
                    await asyncio.sleep(0.02)
        return began, took

    @staticmethod
    async def _all_done(connection: psycopg.AsyncConnection[Any], wanted: int) -> bool:
        count, last = await confirmed(connection)
        if count < wanted:
            return False
        cursor = await connection.execute(SHOWN, [SHOWING, list(COMMERCE_PARTITIONS)])
        (position,) = await cursor.fetchone() or (0,)
        return bool(position >= last)


async def confirmed(connection: psycopg.AsyncConnection[Any]) -> tuple[int, int]:
    """How many checkouts are confirmed, and where in the log the last one is."""
    row = await (await connection.execute(CONFIRMED)).fetchone()
    assert row is not None
    return int(row[0]), int(row[1] or 0)


@contextmanager
def shop(*, at_once: bool, buyers: int = BUYERS) -> Iterator[tuple[Shoppers, str]]:
    """Shoppers who have bought once, before a running system, and its database.

    `at_once`: payments are answered in the worker's own process.
    """
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        postgres, url = start_postgres(Path(folder) / "postgres")
        port = free_port()
        settings = Settings(
            postgres_url=url,
            command_api_port=port,
            rate_limits="off",
            adyen_hmac_key=HMAC_KEY,
            adyen_api_key="bench",
        )
        stand_in = None
        try:
            if not at_once:
                program = adyen_program(
                    Path(folder) / "adyen",
                    merchant_account=settings.adyen_merchant_account,
                    api_key="bench",
                    hmac_key=HMAC_KEY,
                    webhook_url=f"http://127.0.0.1:{port}/api/webhooks/adyen",
                )
                stand_in = start(program)
                settings = msgspec.structs.replace(settings, adyen_base_url=program.url)
            made = asyncio.run(made_members(settings, buyers, SKUS))
            with served(serve_worker, settings, at_once), served(serve_commands, settings):
                shoppers = Shoppers(settings, port, *made, itertools.count())
                uvloop.run(shoppers.buy())  # A session's first request asks the log about it.
                yield shoppers, url
        finally:
            if stand_in is not None:
                stand_in.stop()
            postgres.stop()


async def made_members(
    settings: Settings, buyers: int, products: int
) -> tuple[list[str], list[str], list[str]]:
    """Tokens and ids of members, and ids of products with plenty of stock."""
    await migrate(settings.postgres_url)
    # The social half's worker does not run here; the command service looks who is still there.
    tables = PostgresProjections(settings.postgres_url, (members.PROJECTION, sessions.PROJECTION))
    await tables.checkpoints()
    await tables.close()
    async with opened(settings) as resources:
        executor = executor_of(resources)
        made = await logged_in(resources, buyers)
        seller = made[0][1]
        shop_id = new_id(0)
        await executor.execute(
            OpenShop(shop_id=shop_id, owner_id=seller, name="Bench", country="DE")
        )
        ids = [new_id(number) for number in range(products)]
        for product_id in ids:
            await executor.execute(
                ListProduct(
                    product_id=product_id,
                    shop_id=shop_id,
                    seller_id=seller,
                    title="Mug",
                    description="Holds tea. " * 20,
                    category="Kitchen",
                    price=PRICE,
                ),
                ReceiveStock(product_id=product_id, quantity=UNITS, reference="bench"),
            )
    return [token for token, _ in made], [id_ for _, id_ in made], ids
