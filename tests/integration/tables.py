"""A log of random events and the read tables beside it, to compare what different ways leave."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import sql

from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.migrations import migrate
from infra.adapters.secrets.memory_keyring import MemoryKeyring
from infra.adapters.tables.postgres_projections import PostgresProjections
from infra.formats.codec import Line, encode_state
from infra.ports.frames import SOCIAL_PARTITIONS, Frame
from infra.ports.log import Recorded
from infra.ports.tables import AnyTable
from infra.runtime.frames.frames import frames_between
from infra.runtime.projecting.project import Projector
from infra.runtime.projecting.projection import Projection
from projections import SOCIAL as SEALED
from tests.histories import History

SOCIAL = tuple(projection.with_texts(MemoryKeyring()) for projection in SEALED)
"""The texts of random histories are sealed under no key, and so fold as erased."""

Tables = dict[str, list[tuple[Any, ...]]]


async def write_log(url: str, events: Sequence[Recorded]) -> None:
    """Store events at exactly their positions, as the log's own appends would."""
    await migrate(url)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = connection.cursor()
        async with cursor.copy(
            "COPY log.events (originator_id, originator_version, topic, state, notification_id)"
            " FROM STDIN"
        ) as copy:
            for one in events:
                tag = str(type(one.event).__struct_config__.tag)
                await copy.write_row(
                    (one.stream, one.version, tag, encode_state(one), one.position)
                )
        await connection.execute(
            "SELECT setval('log.events_notification_id_seq',"
            " (SELECT max(notification_id) FROM log.events))"
        )


@asynccontextmanager
async def projector(
    url: str, projections: Sequence[Projection] = SOCIAL, patience_seconds: float = 20
) -> AsyncIterator[Projector]:
    log = await PostgresEventLog.open(url)
    store = PostgresProjections(url, projections)
    try:
        yield Projector(projections, store, log, patience_seconds)
    finally:
        await store.close()
        await log.close()


async def random_log(url: str, seed: int, count: int) -> list[Recorded]:
    events = list(History(seed).events(count))
    await write_log(url, events)
    return events


def chain(events: Sequence[Recorded], size: int) -> list[list[Frame]]:
    """The whole log as an embedded runner hands it over, in batches of `size` rows."""
    return [
        frames_of(events[start : start + size], events[start - 1].position if start else 0)
        for start in range(0, len(events), size)
    ]


def frames_of(events: Sequence[Recorded], after: int) -> list[Frame]:
    lines = [Line(e.position, e.stream, e.version, encode_state(e)) for e in events]
    return frames_between(after, events[-1].position, lines, SOCIAL_PARTITIONS)


def contents(url: str, projections: Sequence[Projection] = SOCIAL, build: int = 1) -> Tables:
    """Every row of every table, in a fixed order."""
    with psycopg.connect(url) as connection:
        return {
            table.name: rows(connection, f"{projection.name}_b{build}", table)
            for projection in projections
            for table in projection.tables
        }


def rows(
    connection: psycopg.Connection[Any], schema: str, table: AnyTable
) -> list[tuple[Any, ...]]:
    query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table.name))
    return sorted(connection.execute(query).fetchall(), key=repr)


def checkpoints(url: str) -> set[int]:
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute("SELECT position FROM public.checkpoints")}


def forget_tables(url: str) -> None:
    """Drop all builds and checkpoints, as if nothing had been applied."""
    with psycopg.connect(url) as connection:
        for projection in SOCIAL:
            schema = sql.Identifier(f"{projection.name}_b1")
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))
        connection.execute("TRUNCATE public.projection_builds, public.checkpoints")
