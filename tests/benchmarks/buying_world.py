"""Members with full carts before a running command service, and a worker that sells to them."""

import asyncio
import itertools
import re
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import psycopg
from prometheus_client import CollectorRegistry

from domain.commerce.cart.commands import PutCartItem
from domain.commerce.cart.events import CartItem
from domain.commerce.payment.commands import RecordNotification
from domain.commerce.payment.events import PaymentNotified
from domain.commerce.product.commands import ListProduct
from domain.commerce.shop.commands import OpenShop
from domain.commerce.stock.commands import ReceiveStock
from domain.deciders import DECIDERS
from domain.shared.identifiers import make_id
from domain.shared.money import Money
from domain.social.member.commands import RegisterMember, registration
from domain.social.session.commands import StartSession
from infra.adapters.migrations import migrate
from infra.codec import username_key
from infra.composition import command_api, commerce_worker, projection_worker
from infra.composition.command_api import Resources, opened, utc_now
from infra.composition.logging import configure_logging
from infra.composition.settings import Settings
from infra.composition.tasks import COMMERCE_PROCESSES, halves
from infra.http.authentication import Session, Tokens
from infra.payments import (
    Accepted,
    Answer,
    Authorise,
    Authorised,
    Capture,
    PaymentRequest,
    Refused,
)
from infra.runtime.appliers import ApplierMetrics
from infra.runtime.execute import Executor
from infra.servers.adyen_stand_in import adyen_program
from infra.servers.postgres import start_postgres
from infra.servers.process import free_port, start
from tests.benchmarks.append_store import PGBENCH, PGBENCH_CLIENTS
from tests.benchmarks.feed_world import served
from tests.market import ADDRESS

BUYERS_AT_ONCE = 64
MADE_AT_ONCE = 100
WAIT_SECONDS = 60.0
PRICE = Money("EUR", 1999)
UNITS = 1_000_000
HMAC_KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
CONFIRMED = "SELECT count(*) FROM log.events WHERE topic = 'checkout.confirmed.v1'"
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

# What one checkout writes, in three transactions: begun; held and asked; paid and confirmed.
PROBE_TABLES = """
    CREATE TABLE probe (id bigserial PRIMARY KEY, stream text NOT NULL, state bytea NOT NULL);
    CREATE INDEX ON probe (stream);
"""
PROBE_ROWS = (3, 3, 9)


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
    metrics = ApplierMetrics(CollectorRegistry())
    payments = AtOnce() if at_once else None
    async with asyncio.TaskGroup() as group:
        group.create_task(
            projection_worker.follow_commerce(settings, halves(None, None)[1].projections, metrics)
        )
        await asyncio.sleep(1.0)
        async with commerce_worker.opened(settings, COMMERCE_PROCESSES, payments) as opened_worker:
            buying, runners, source = opened_worker
            if payments is not None:
                payments.execute = buying.sagas.execute
            follower = commerce_worker.follower_of(source, runners)
            group.create_task(buying.sagas.run())
            group.create_task(buying.holds.run())
            group.create_task(follower.run())
            ready(0)
            await asyncio.Event().wait()


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
        """Completed checkouts a second, from the first command to the last confirmation."""
        await self.fill_carts()
        number = next(self.numbers)
        async with await psycopg.AsyncConnection.connect(
            self.settings.postgres_url, autocommit=True
        ) as connection:
            before = await confirmed(connection)
            began = time.perf_counter()
            room = asyncio.Semaphore(BUYERS_AT_ONCE)
            async with aiohttp.ClientSession() as http:

                async def check_out(token: str, buyer: str) -> None:
                    headers = {
                        "Authorization": f"Bearer {token}",
                        "Idempotency-Key": f"{buyer}-{number}",
                        "Content-Type": "application/json",
                    }
                    url = f"http://127.0.0.1:{self.port}/api/checkouts"
                    async with room, http.post(url, data=BODY, headers=headers) as answer:
                        assert answer.status == 202, await answer.text()

                await asyncio.gather(*map(check_out, self.tokens, self.ids))
                while await confirmed(connection) - before < len(self.ids):
                    assert time.perf_counter() - began < WAIT_SECONDS, "not all are confirmed"
                    await asyncio.sleep(0.02)
            return len(self.ids) / (time.perf_counter() - began)


async def confirmed(connection: psycopg.AsyncConnection[Any]) -> int:
    row = await (await connection.execute(CONFIRMED)).fetchone()
    assert row is not None
    return int(row[0])


def executor_of(resources: Resources) -> Executor:
    return Executor(resources.log, resources.keyring, DECIDERS, utc_now)


@contextmanager
def shop(buyers: int, products: int, *, at_once: bool) -> Iterator[tuple[Shoppers, str]]:
    """Shoppers before a running system, and its database. `at_once`: payments in this process."""
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
            made = asyncio.run(made_members(settings, buyers, products))
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(PROBE_TABLES)
            with served(serve_worker, settings, at_once), served(serve_commands, settings):
                yield Shoppers(settings, port, *made, itertools.count()), url
        finally:
            if stand_in is not None:
                stand_in.stop()
            postgres.stop()


async def made_members(
    settings: Settings, buyers: int, products: int
) -> tuple[list[str], list[str], list[str]]:
    """Tokens and ids of members, and ids of products with plenty of stock."""
    await migrate(settings.postgres_url)
    async with opened(settings) as resources:
        executor = executor_of(resources)
        made: list[tuple[str, str]] = []
        for first in range(0, buyers, MADE_AT_ONCE):
            numbers = range(first, min(first + MADE_AT_ONCE, buyers))
            made += await asyncio.gather(*(member(resources, executor, n) for n in numbers))
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


def new_id(number: int) -> str:
    return make_id(int(time.time() * 1000) - number, secrets.randbits(22))


async def member(resources: Resources, executor: Executor, number: int) -> tuple[str, str]:
    member_id, session_id, name = new_id(number), new_id(number), f"buyer_{number}"
    await resources.keyring.create(member_id)
    registered = RegisterMember(
        member_id=member_id,
        username_key=username_key(resources.secrets.names, name),
        username=name,
        display_name=name,
    )
    await executor.execute(*registration(registered))
    expires_at = utc_now() + timedelta(days=1)
    await executor.execute(
        StartSession(session_id=session_id, member_id=member_id, expires_at=expires_at)
    )
    session = Session(session_id, member_id, int(expires_at.timestamp()))
    return Tokens(resources.secrets.tokens).sign(session), member_id


def three_transactions(url: str, seconds: int = 4) -> float:
    """Scripts a second of pgbench, each writing in three transactions what one checkout writes."""
    parts = urlsplit(url)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script())
        file.flush()
        command = (
            f"{PGBENCH} -n -M prepared -c {PGBENCH_CLIENTS} -j 2 -T {seconds}"
            f" -f {file.name} -h {parts.hostname} -p {parts.port} -U {parts.username}"
            f" {parts.path[1:]}"
        )
        done = subprocess.run(
            command.split(),
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env={"PGPASSWORD": parts.password or ""},
        )
    matched = re.search(r"tps = ([\d.]+)", done.stdout)
    assert matched is not None, done.stdout
    return float(matched[1])


def script() -> str:
    lines = ["\\set n random(1, 1000000000)"]
    for rows in PROBE_ROWS:
        state = "\\x" + "5a" * 150
        values = ", ".join(
            f"('checkout-' || :n || '-' || :client_id || '-{n}', '{state}')" for n in range(rows)
        )
        lines.append(f"INSERT INTO probe (stream, state) VALUES {values};")
    return "\n".join(lines) + "\n"
