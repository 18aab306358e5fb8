"""Lets one process of a kind run at a time, by an advisory lock that ends with its connection."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from infra.adapters.connections import bounded, closing, connect

SPACE = 1_918_033
LOCK_EVERY_SECONDS = 0.5
STATEMENT_SECONDS = 10.0
CHECK_EVERY_SECONDS = 1.0


class LeaseLost(Exception):
    """The connection that held the lease is gone: another process may run by now."""


class Lease:
    """Held while its connection lives."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    async def watch(self) -> None:
        """Return never. Raises `LeaseLost` once it is."""
        while True:
            await asyncio.sleep(CHECK_EVERY_SECONDS)
            await ask(self._connection, "SELECT 1")


@asynccontextmanager
async def lease(postgres_url: str, name: str) -> AsyncIterator[Lease]:
    """The lease of this name, once no other process holds it. Raises `LeaseLost`."""
    try:
        connection = await connect(postgres_url, f"plaza-{name}")
    except psycopg.OperationalError as error:
        raise LeaseLost(str(error)) from error
    async with closing(connection):
        key = zlib.crc32(name.encode()) & 0x7FFF_FFFF
        # Nobody tells that a lock is free; to wait for it inside the server would hold a snapshot.
        while not await ask(  # noqa: ASYNC110
            connection, f"SELECT pg_try_advisory_lock({SPACE}, {key})"
        ):
            await asyncio.sleep(LOCK_EVERY_SECONDS)
        yield Lease(connection)


async def ask(connection: psycopg.AsyncConnection, statement: str) -> bool:
    try:
        with bounded(connection, STATEMENT_SECONDS):
            cursor = await connection.execute(statement.encode())
            row = await cursor.fetchone()
    except psycopg.OperationalError as error:
        raise LeaseLost(str(error)) from error
    return row is not None and bool(row[0])
