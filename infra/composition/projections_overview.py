"""How far each projection has got, for operators."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg

from infra.adapters.projection_builds import overview as builds_overview
from infra.codec import Line, decode_lines
from infra.composition.settings import Settings

WAITING = "SELECT count(*) FROM log.events WHERE notification_id > %s"
FIRST_WAITING = """
    SELECT notification_id, originator_id, originator_version, state FROM log.events
    WHERE notification_id > %s ORDER BY notification_id LIMIT 1
"""

Connection = psycopg.AsyncConnection[Any]


async def overview(settings: Settings) -> list[dict[str, Any]]:
    """One row a build of a projection. Raises `psycopg.Error`."""
    async with await psycopg.AsyncConnection.connect(
        settings.postgres_url, autocommit=True
    ) as connection:
        return [await with_lag(connection, build) for build in await builds_overview(connection)]


async def with_lag(connection: Connection, build: Mapping[str, Any]) -> dict[str, Any]:
    """`lagSeconds` is the age of the first event that has not been applied."""
    position = int(build["position"] or 0)
    found = await (await connection.execute(WAITING, [position])).fetchone()
    waiting = int(found[0]) if found is not None else 0
    row = await (await connection.execute(FIRST_WAITING, [position])).fetchone()
    seconds = 0.0
    if row is not None:
        events, _ = decode_lines([Line(*row)])
        if events:
            seconds = max(0.0, (datetime.now(UTC) - events[0].recorded_at).total_seconds())
    return {
        "name": build["name"],
        "version": build["version"],
        "status": build["status"],
        "position": position,
        "lagEvents": waiting,
        "lagSeconds": round(seconds, 3),
        "parked": build["parked"],
    }
