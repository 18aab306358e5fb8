"""Where the relay has got to, in PostgreSQL, held under an advisory lock by one process."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

from infra.adapters.connections import bounded, closing, connect
from infra.ports.frames import PlaceLost

LOCK = 7_881_702_245_171
LOCK_EVERY_SECONDS = 0.5
STATEMENT_SECONDS = 10.0

LOAD = "SELECT position, links FROM public.relay"
SAVE = """
    INSERT INTO public.relay (position, links) VALUES (%s, %s)
    ON CONFLICT (only_row) DO UPDATE
    SET position = excluded.position, links = excluded.links, moved_at = now()
"""


class PostgresPlace:
    """The place, while the connection that holds the lock lives."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    async def load(self) -> tuple[int, Mapping[int, int]]:
        async with await self._execute(LOAD) as found:
            row = await found.fetchone()
        if row is None:
            return 0, {}
        return row[0], {int(partition): link for partition, link in row[1].items()}

    async def save(self, position: int, links: Mapping[int, int]) -> None:
        await self._execute(SAVE, [position, json.dumps(links)])

    async def lock(self) -> None:
        """Wait until no other process holds the place."""
        while True:
            async with await self._execute("SELECT pg_try_advisory_lock(%s)", [LOCK]) as found:
                row = await found.fetchone()
            if row is not None and row[0]:
                return
            await asyncio.sleep(LOCK_EVERY_SECONDS)

    async def _execute(
        self, statement: LiteralString, values: Sequence[object] = ()
    ) -> psycopg.AsyncCursor[TupleRow]:
        try:
            with bounded(self._connection, STATEMENT_SECONDS):
                return await self._connection.execute(statement, values)
        except psycopg.OperationalError as error:
            raise PlaceLost(str(error)) from error


@asynccontextmanager
async def hold_place(postgres_url: str) -> AsyncIterator[PostgresPlace]:
    """The relay's place, once no other process holds it. Raises `PlaceLost`."""
    try:
        connection = await connect(postgres_url, "plaza-relay")
    except psycopg.OperationalError as error:
        raise PlaceLost(str(error)) from error
    async with closing(connection):
        place = PostgresPlace(connection)
        await place.lock()
        yield place
