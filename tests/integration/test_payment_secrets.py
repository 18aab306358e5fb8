"""What buyers entrust to us for the provider: sealed, given back, and forgotten."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from infra.adapters.migrations import migrate
from infra.adapters.payments.payment_secrets import PostgresPaymentSecrets
from infra.composition.services.commerce_worker import SECRETS_DAYS, Buying
from infra.ports.payments import Answer, PaymentRequest, Unanswered
from infra.runtime.commands.execute import UNEXPLAINED, Context, Outcome
from infra.runtime.commands.states import State

KEY = b"k" * 32
CARD = {"paymentMethod": {"encryptedCardNumber": "test_4111111111111111"}}


class NobodyAsked:
    async def ask(self, request: PaymentRequest) -> Answer:
        return Unanswered(request.key)


class NothingExecuted:
    async def execute(self, *commands: object, context: Context = UNEXPLAINED) -> Outcome:
        raise AssertionError(f"nobody should execute {commands} ({context})")

    async def state(self, stream: str, *, fresh: bool = False) -> State:
        raise AssertionError(f"nobody should ask for {stream} ({fresh})")


@pytest.fixture
async def secrets(postgres_url: str) -> AsyncIterator[PostgresPaymentSecrets]:
    await migrate(postgres_url)
    opened = await PostgresPaymentSecrets.connect(postgres_url, KEY)
    yield opened
    await opened.close()


async def test_what_is_put_is_given_back_to_who_has_the_key(
    postgres_url: str, secrets: PostgresPaymentSecrets
) -> None:
    await asyncio.gather(*(secrets.put(f"c{n}", "payment", {"number": n}) for n in range(50)))
    found = await asyncio.gather(*(secrets.get(f"c{n}", "payment") for n in range(50)))
    assert found == [{"number": n} for n in range(50)]
    await secrets.put("c1", "payment", CARD)
    assert await secrets.get("c1", "payment") == CARD
    assert await secrets.get("c1", "details") is None
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute("SELECT sealed FROM vault.payment_secrets").fetchall()
    assert not any(b"4111111111111111" in bytes(sealed) for (sealed,) in rows)
    stranger = await PostgresPaymentSecrets.connect(postgres_url, b"x" * 32)
    assert await stranger.get("c1", "payment") is None
    await stranger.close()
    await secrets.forget("c1")
    assert await secrets.get("c1", "payment") is None


async def test_what_a_crash_left_behind_is_forgotten_after_a_week(
    postgres_url: str, secrets: PostgresPaymentSecrets
) -> None:
    await secrets.put("old", "payment", CARD)
    await secrets.put("new", "payment", CARD)
    stored_at = datetime.now(UTC) - timedelta(days=SECRETS_DAYS, minutes=1)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE vault.payment_secrets SET stored_at = %s WHERE checkout_id = 'old'",
            [stored_at],
        )
    buying = Buying(NothingExecuted(), NobodyAsked(), secrets)
    sweeping = asyncio.create_task(buying.forget_left_behind())
    async with asyncio.timeout(20):
        while await secrets.get("old", "payment") is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    sweeping.cancel()
    assert await secrets.get("new", "payment") == CARD
