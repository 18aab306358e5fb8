"""A small pool of connections for statements that may be repeated without harm."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from infra.adapters.connections import PARAMETERS, bounded, settings_query
from infra.adapters.niceness import is_in_background, share_niceness
from infra.ports.log import LogUnavailable

STATEMENT_SECONDS = 15.0
PATIENCE_SECONDS = 5.0
"""How long a statement goes on being tried while the server is away."""

T = TypeVar("T")
Connection = psycopg.AsyncConnection[TupleRow]
Row = tuple[Any, ...]


class Pool:
    """Autocommitting connections, made when needed, dropped when dead or idle.

    Everything raises `LogUnavailable` when the server does not answer in time.
    """

    def __init__(
        self, postgres_url: str, name: str, connections_max: int, settings: Mapping[str, str]
    ) -> None:
        async def configure(connection: Connection) -> None:
            if is_in_background():
                share_niceness(connection)
            await connection.execute(settings_query({"statement_timeout": "10s", **settings}))

        self._pool = AsyncConnectionPool[Connection](
            postgres_url,
            min_size=0,
            max_size=connections_max,
            kwargs={"autocommit": True, "application_name": name, **PARAMETERS},
            configure=configure,
            open=False,
        )

    async def open(self) -> None:
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    async def rows(self, query: str, parameters: Sequence[Any] = ()) -> Sequence[Row]:
        """Run one statement, and again on another connection if the first turns out to be dead."""

        async def fetch(connection: Connection) -> Sequence[Row]:
            cursor = await connection.execute(query, parameters, prepare=True, binary=True)
            return await cursor.fetchall() if cursor.description else []

        return await self.run(fetch)

    async def run(
        self,
        work: Callable[[Connection], Awaitable[T]],
        seconds: float = STATEMENT_SECONDS,
    ) -> T:
        """The same for work of several statements, which must bear repetition as a whole."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        task = asyncio.current_task()
        assert task is not None
        cancelled = task.cancelling()
        while True:
            left = deadline - loop.time()
            try:
                async with self._pool.connection(timeout=max(left, 0.01)) as connection:
                    if task.cancelling() > cancelled:
                        # Before Python 3.12 `asyncio.wait_for`, by which the pool waits, forgets
                        # that its caller was cancelled when a connection comes at that moment.
                        raise asyncio.CancelledError
                    with bounded(connection, seconds):
                        return await work(connection)
            except PoolTimeout as error:
                raise LogUnavailable(str(error)) from error
            except (psycopg.OperationalError, OSError) as error:
                if left <= 0:
                    raise LogUnavailable(str(error)) from error
                await asyncio.sleep(0.02)


class Pooled:
    """What asks over a pool of its own, from the moment it is opened until it is closed.

    `pool_name` is for whoever looks into `pg_stat_activity`.
    """

    pool_name: ClassVar[str]
    connections_max: ClassVar[int]
    pool_settings: ClassVar[Mapping[str, str]] = {}

    def __init__(self, postgres_url: str) -> None:
        self._pool = Pool(postgres_url, self.pool_name, self.connections_max, self.pool_settings)

    @classmethod
    async def open(cls, postgres_url: str) -> Self:
        opened = cls(postgres_url)
        await opened._pool.open()
        return opened

    async def close(self) -> None:
        await self._pool.close()
