"""Connections to PostgreSQL that nobody waits on for ever."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql

from infra.adapters.niceness import ONE_PROCESS, is_in_background, share_niceness

CONNECT_SECONDS = 5
ALIVE_EVERY_SECONDS = 1.0
ANSWER_SECONDS = 10.0

PARAMETERS: Mapping[str, Any] = {
    # Half-open connections are noticed within seconds rather than hours.
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


class ConnectionCut(Exception):
    """Something went on for as long as a connection was alive, and that is no longer so."""


async def connect(
    postgres_url: str, name: str, settings: Mapping[str, str] | None = None
) -> psycopg.AsyncConnection:
    """An autocommitting connection, named for whoever looks into `pg_stat_activity`.

    One of a process in the background gives way to others in the server, too.
    """
    connection = await psycopg.AsyncConnection.connect(
        postgres_url, autocommit=True, application_name=name, **PARAMETERS
    )
    if is_in_background():
        share_niceness(connection)
        settings = {**ONE_PROCESS, **(settings or {})}
    if settings:
        try:
            with bounded(connection, CONNECT_SECONDS):
                await connection.execute(settings_query(settings))
        except BaseException:
            # Also when we are told to stop meanwhile: nobody else knows of this connection.
            await connection.close()
            raise
    return connection


@contextlib.asynccontextmanager
async def connected(
    postgres_url: str, name: str, settings: Mapping[str, str] | None = None
) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection as `connect` makes it, closed at the end."""
    connection = await connect(postgres_url, name, settings)
    async with closing(connection):
        yield connection


@contextlib.asynccontextmanager
async def closing(connection: psycopg.AsyncConnection) -> AsyncIterator[None]:
    """Close it whatever happens.

    psycopg's own context manager first ends the transaction, and leaves the connection open when
    that is cancelled.
    """
    try:
        yield
    finally:
        await connection.close()


def settings_query(settings: Mapping[str, str]) -> sql.Composed:
    return sql.SQL("; ").join(
        sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in settings.items()
    )


@contextlib.asynccontextmanager
async def while_alive(connection: psycopg.AsyncConnection) -> AsyncIterator[None]:
    """End what goes on inside, by cancelling it, once this connection is found to be cut; then
    raise `ConnectionCut`, unless it has come to its end. Nobody else may use the connection
    meanwhile."""
    loop, left = asyncio.get_running_loop(), asyncio.Event()
    problem: Exception | None = None
    done = False

    async def watch(ending: asyncio.Timeout) -> None:
        nonlocal problem
        try:
            # Left rather than cancelled: psycopg would wait for a server that does not answer.
            while not await happens(left, ALIVE_EVERY_SECONDS):
                with bounded(connection, ANSWER_SECONDS):
                    await connection.execute("SELECT 1")
        except (psycopg.Error, OSError) as error:
            problem = error
            ending.reschedule(loop.time())

    try:
        async with asyncio.timeout(None) as ending:
            watching = asyncio.create_task(watch(ending))
            try:
                yield
                done = True
            finally:
                left.set()
                await asyncio.gather(watching, return_exceptions=True)
    except TimeoutError:
        if problem is None:
            raise
        if not done:
            raise ConnectionCut(str(problem)) from problem


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether it does within this time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


@contextlib.contextmanager
def bounded(connection: psycopg.AsyncConnection, seconds: float) -> Iterator[None]:
    """Cut the connection when what is done with it inside takes too long.

    What waits on it then raises `OperationalError`. Cancelling the wait instead would make psycopg
    ask the server to cancel the query, and wait for a server that does not answer.
    """
    watchdog = asyncio.get_running_loop().call_later(seconds, _cut, connection)
    try:
        yield
    finally:
        watchdog.cancel()


def _cut(connection: psycopg.AsyncConnection) -> None:
    if not connection.closed:
        with (
            contextlib.suppress(OSError),
            socket.socket(fileno=os.dup(connection.fileno())) as end,
        ):
            end.shutdown(socket.SHUT_RDWR)
