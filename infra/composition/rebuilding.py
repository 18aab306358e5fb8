"""Building a projection's tables anew beside those being served, for operators, assembled."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg

from infra.adapters.connections import connect
from infra.adapters.event_log import PostgresEventLog
from infra.adapters.postgres_builds import PostgresBuilds
from infra.composition.settings import Settings
from infra.composition.verifying import verify
from infra.runtime import rebuild as rebuilding
from infra.runtime.projection import Projection
from infra.tables import StoreUnavailable

Progress = Callable[[str, int, int], None]
"""Told what is done, how far it is, and how far it goes."""

TAKE_TURN = "SELECT pg_try_advisory_lock(7881702, hashtext(%s))"


class AlreadyRebuilding(Exception):
    """Somebody else rebuilds this projection."""


async def compare(settings: Settings, projection: Projection, progress: Progress) -> dict[str, Any]:
    """What the projection makes of the log against what is served of it, at one position.

    `comparable` is False where a version has other tables than the one served.
    """
    try:
        found = await verify(settings, projection, progress, any_version=True)
    except StoreUnavailable as problem:
        unlike = (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedTable)
        if not isinstance(problem.__cause__, unlike):
            raise
        return {"name": projection.name, "comparable": False, "different": 0, "examples": []}
    return {**found, "comparable": True}


async def rebuild(settings: Settings, projection: Projection, progress: Progress) -> None:
    """Load new tables, catch up with the live ones, and have everybody read them at once.

    Whatever stops it leaves the live tables as they are. Raises `AlreadyRebuilding`,
    `StoreUnavailable` and `LogUnavailable`.
    """
    async with alone(settings, projection.name):
        log = await PostgresEventLog.open(settings.postgres_url)
        try:
            await rebuilding.rebuild(
                [projection],
                PostgresBuilds(settings.postgres_url),
                log,
                lambda reached, end: progress("rebuilding", reached, end),
            )
        finally:
            await log.close()


@contextlib.asynccontextmanager
async def alone(settings: Settings, name: str) -> AsyncIterator[None]:
    """Keep other rebuilds of this projection away, for as long as this process has the block."""
    try:
        connection = await connect(settings.postgres_url, "plaza-rebuild")
    except (psycopg.Error, OSError) as problem:
        raise StoreUnavailable(str(problem)) from problem
    async with connection:
        row = await (await connection.execute(TAKE_TURN, [name])).fetchone()
        if row is None or not row[0]:
            raise AlreadyRebuilding(f"{name} is being rebuilt by somebody else")
        yield
