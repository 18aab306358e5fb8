"""That connections are closed by whoever opened them, however that ends."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import psycopg
import pytest

from infra.adapters.connections import connect, connected
from infra.adapters.migrations import migrate
from infra.adapters.pools import Pool
from infra.adapters.reads.postgres_reads import Connections
from infra.adapters.tables.postgres_changes import PostgresChanges
from infra.composition.services.revocations import follow_revocations
from infra.http.authentication import Revocations
from infra.ports.reads import Reads


async def cancelled(task: asyncio.Task[None]) -> None:
    """As impatiently as it gets: again in each turn of the loop, until the task is done."""
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)


async def test_a_connection_is_closed_when_its_user_is_cancelled_at_the_end(
    postgres_url: str,
) -> None:
    opened: asyncio.Future[psycopg.AsyncConnection] = asyncio.get_running_loop().create_future()

    async def use() -> None:
        async with connected(postgres_url, "plaza-test") as connection, connection.transaction():
            opened.set_result(connection)
            await connection.execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(use())
    connection = await opened
    await cancelled(task)
    assert connection.closed


async def test_who_is_cancelled_while_a_pool_hands_over_a_connection_ends(
    postgres_url: str,
) -> None:
    pool = Pool(postgres_url, "plaza-test", connections_max=1, settings={})
    await pool.open()

    async def forever(_: object) -> None:
        await asyncio.Event().wait()

    for turns in range(40):
        handed_back = asyncio.Event()

        async def hold(_: object, until: asyncio.Event = handed_back) -> None:
            await until.wait()

        holding = asyncio.create_task(pool.run(hold))
        await asyncio.sleep(0.01)
        waiting = asyncio.create_task(pool.run(forever))
        await asyncio.sleep(0.01)
        handed_back.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        async with asyncio.timeout(30):
            await asyncio.wait([holding, waiting])
        assert waiting.cancelled()
    await pool.close()


async def test_who_follows_changes_closes_their_connection_when_cancelled_at_work(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[psycopg.AsyncConnection] = []
    at_work = asyncio.Event()

    async def noted(
        url: str, name: str, settings: Mapping[str, str] | None = None
    ) -> psycopg.AsyncConnection:
        opened.append(await connect(url, name, settings))
        return opened[0]

    async def ended_sessions(_: int) -> None:
        at_work.set()
        await asyncio.sleep(60)

    monkeypatch.setattr("infra.adapters.connections.connect", noted)
    reads = cast("Reads", SimpleNamespace(ended_sessions=ended_sessions))
    following = follow_revocations(reads, PostgresChanges(postgres_url), Revocations())
    task = asyncio.create_task(following)
    await at_work.wait()
    await cancelled(task)
    assert opened[0].closed


async def test_who_asks_when_the_connections_are_closed_leaves_none_open(postgres_url: str) -> None:
    await migrate(postgres_url)
    connections = Connections(postgres_url)
    async with connections.take() as late:
        await connections.close()
    async with connections.take() as later:
        await later.execute("SELECT 1")
    assert (late.closed, later.closed) == (True, True)
