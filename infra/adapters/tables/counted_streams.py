"""Counts that one stream holds all events of, a few keys at a time, with those events."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from domain.shared.identifiers import id_text
from infra.adapters.connections import bounded, connected
from infra.adapters.tables.projection_builds import (
    CHECKPOINTS,
    NOT_APPLIED,
    live_builds,
    schema_name,
)
from infra.formats.codec import Line, decode_lines
from infra.ports.frames import partition_of
from infra.ports.log import Recorded
from infra.ports.tables import CountTable, ReadModel, StoreUnavailable

STATEMENT_SECONDS = 10.0
EVENTS = """
    SELECT notification_id, originator_id, originator_version, state FROM log.events
    WHERE originator_id = ANY(%s) ORDER BY notification_id
"""


@dataclass(frozen=True)
class Counted:
    """Rows as they are served in one moment, and the events that had been applied by then."""

    version: int
    rows: Sequence[tuple[int, ...]]
    events: Sequence[Recorded]


class CountedStreams:
    def __init__(self, postgres_url: str) -> None:
        self._url = postgres_url

    async def after(
        self, projection: ReadModel, table: CountTable, key: int, limit: int
    ) -> Counted | None:
        """The next rows by key; None where nothing is served. Raises `StoreUnavailable`."""
        async with self._snapshot() as connection:
            live = (await live_builds(connection)).get(projection.name)
            if live is None:
                return None
            place = [projection.name, live[0]]
            checkpoints = dict(await (await connection.execute(CHECKPOINTS, place)).fetchall())
            aside = await (await connection.execute(NOT_APPLIED, place)).fetchall()
            query = sql.SQL("SELECT {} FROM {} WHERE {} > %s ORDER BY 1 LIMIT %s").format(
                sql.SQL(", ").join(map(sql.Identifier, (table.key, *table.counts))),
                sql.Identifier(schema_name(projection.name, live[0]), table.name),
                sql.Identifier(table.key),
            )
            rows = await (await connection.execute(query, [key, limit])).fetchall()
            streams = [f"{table.stream}{id_text(row[0])}" for row in rows]
            found = await (await connection.execute(EVENTS, [streams])).fetchall()
        not_applied = {position for (position,) in aside}
        events, _ = decode_lines([Line(*line) for line in found])
        applied = [
            one
            for one in events
            if one.position not in not_applied
            and one.position <= checkpoints.get(partition_of(one.event), 0)
        ]
        return Counted(live[1], rows, applied)

    @contextlib.asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[psycopg.AsyncConnection]:
        try:
            async with connected(self._url, "plaza-audit") as connection:
                await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
                await connection.set_read_only(True)
                with bounded(connection, STATEMENT_SECONDS):
                    async with connection.transaction():
                        yield connection
        except (psycopg.Error, OSError) as error:
            # Also where another build is served by now.
            raise StoreUnavailable(str(error)) from error
