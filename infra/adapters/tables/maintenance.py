"""Removes what has served its time, a little at a time, so that nobody waits for it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import psycopg

from infra.adapters.connections import bounded, connected
from infra.adapters.tables.postgres_builds import PostgresBuilds
from infra.ports.tables import StoreUnavailable

ROWS_AT_ONCE = 1_000
STATEMENT_SECONDS = 10.0
LETTER_DAYS = 90
"""Letters that were settled are looked at afterwards, but not for ever."""

# Rows stand in the order in which they were written, so the oldest are found by a few pages.
OLD_ANSWERS = """
    DELETE FROM log.answers WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM log.answers WHERE answered_at < now() - make_interval(days => %s)
        LIMIT %s))
"""
SETTLED_LETTERS = """
    DELETE FROM public.dead_letters WHERE id = ANY(ARRAY(
        SELECT id FROM public.dead_letters WHERE status = 'retried'
            AND coalesce(settled_at, parked_at) < now() - make_interval(days => %s)
        LIMIT %s))
"""
NAMES = "SELECT DISTINCT name FROM public.projection_builds WHERE status = 'retired'"


class PostgresMaintenance:
    """Each method does one step, and answers how much it removed; 0 when there is nothing left.

    Raises `StoreUnavailable`.
    """

    def __init__(self, postgres_url: str) -> None:
        self._url = postgres_url
        self._builds = PostgresBuilds(postgres_url)

    async def forget_answers(self, older_than_days: int) -> int:
        """Answers to idempotency keys: a key that is used again after that is a new one."""
        return await self._delete(OLD_ANSWERS, older_than_days)

    async def forget_letters(self) -> int:
        """Dead letters that were retried and are applied. What was discarded stays, with why."""
        return await self._delete(SETTLED_LETTERS, LETTER_DAYS)

    async def drop_builds(self, keep_seconds: float) -> int:
        """Tables that were served before, and are not kept any longer."""
        async with self._connected() as connection:
            names = [name for (name,) in await (await connection.execute(NAMES)).fetchall()]
        return await self._builds.drop_retired(names, keep_seconds) if names else 0

    async def _delete(self, statement: str, days: int) -> int:
        async with self._connected() as connection:
            with bounded(connection, STATEMENT_SECONDS):
                done = await connection.execute(statement.encode(), [days, ROWS_AT_ONCE])
                return done.rowcount

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[psycopg.AsyncConnection]:
        settings: Mapping[str, str] = {"lock_timeout": "2s", "synchronous_commit": "off"}
        try:
            async with connected(self._url, "plaza-maintenance", settings) as connection:
                yield connection
        except (psycopg.OperationalError, OSError) as error:
            raise StoreUnavailable(str(error)) from error
