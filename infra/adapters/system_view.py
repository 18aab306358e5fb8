"""Looks at the log, the checkpoints and what is open, for operators: a few cheap questions."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Self

import psycopg
from psycopg import sql

from domain.shared.identifiers import EPOCH_MS, RANDOM_BITS
from infra.adapters.log.log_listener import HEAD
from infra.adapters.pools import Connection, Pool
from infra.formats.codec import Line, decode_lines
from infra.ports.log import OPEN
from infra.ports.system_state import (
    PROCESS,
    PROJECTION,
    Checkouts,
    Follower,
    Slice,
    SystemState,
    state_of,
)

SLICE_LINES = 100
OPEN_FOR_SECONDS = 7_200.0
"""Checkouts begun longer ago than this have ended: their holds have."""

TIMELINES = "home_timelines"

FOLLOWERS = """
    SELECT c.projection, c.build, c.partition, c.position FROM public.checkpoints c
    LEFT JOIN public.projection_builds b ON b.name = c.projection AND b.build = c.build
    WHERE c.build = 0 OR b.status = 'live'
"""
BUILDS = "SELECT name, build FROM public.projection_builds WHERE status = 'live'"
DEAD_LETTERS = """
    SELECT d.projection, count(*) FROM public.dead_letters d
    LEFT JOIN public.projection_builds b ON b.name = d.projection AND b.build = d.build
    WHERE d.status IN ('parked', 'waiting') AND (
        d.build = 0 OR b.status = 'live'
        -- The builds of search indices stand in the search server.
        OR d.projection NOT IN (SELECT name FROM public.projection_builds)
    ) GROUP BY 1
"""
RELAY = "SELECT position FROM public.relay"
CONNECTIONS = """
    SELECT count(*), current_setting('max_connections')::integer FROM pg_stat_activity
    WHERE backend_type = 'client backend'
"""
SLICES = """
    SELECT s.after, e.notification_id, e.originator_id, e.originator_version, e.state
    FROM unnest(%s::bigint[]) AS s (after) CROSS JOIN LATERAL (
        SELECT notification_id, originator_id, originator_version, state FROM log.events
        WHERE notification_id > s.after ORDER BY notification_id LIMIT %s
    ) AS e ORDER BY 1, 2
"""
CHECKOUTS = """
    SELECT status, count(*), min(checkout_id) FROM {}
    WHERE until = %s AND checkout_id > %s AND status IN ('pending', 'awaiting_action')
    GROUP BY 1
"""
PROBLEMS = "SELECT count(*) FROM {} WHERE problem IS NOT NULL AND until = %s"

PROCESSES_BUILD = 0
Timelines = Callable[[], Awaitable[Mapping[int, int]]]


async def no_timelines() -> Mapping[int, int]:
    return {}


class SystemView:
    """`timelines` answers how far the kept timelines are, which Redis knows."""

    def __init__(self, postgres_url: str, timelines: Timelines = no_timelines) -> None:
        settings = {"default_transaction_read_only": "on", "statement_timeout": "3s"}
        self._pool = Pool(postgres_url, "plaza-system-view", 1, settings)
        self._timelines = timelines

    @classmethod
    async def open(cls, postgres_url: str, timelines: Timelines = no_timelines) -> Self:
        opened = cls(postgres_url, timelines)
        await opened._pool.open()
        return opened

    async def close(self) -> None:
        await self._pool.close()

    async def look(self) -> SystemState:
        """Raises `LogUnavailable`."""
        timelines = await self._timelines()
        return await self._pool.run(lambda connection: looked(connection, timelines))


async def looked(connection: Connection, timelines: Mapping[int, int]) -> SystemState:
    followers = followers_of(await rows(connection, FOLLOWERS), timelines)
    slices = await slices_after(connection, {at for f in followers for at in f.positions.values()})
    ((head,),) = await rows(connection, HEAD)
    relayed = await rows(connection, RELAY)
    ((used, connections_max),) = await rows(connection, CONNECTIONS)
    return state_of(
        followers,
        slices,
        at=datetime.now(UTC),
        head=head,
        dead_letters=dict(await rows(connection, DEAD_LETTERS)),
        checkouts=await open_checkouts(connection),
        relay=relayed[0][0] if relayed else None,
        connections=used,
        connections_max=connections_max,
    )


async def rows(
    connection: Connection, query: sql.Composed | str, parameters: Sequence[Any] = ()
) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(query, parameters)
    return await cursor.fetchall()


def followers_of(found: Sequence[tuple[Any, ...]], timelines: Mapping[int, int]) -> list[Follower]:
    positions: dict[tuple[str, str], dict[int, int]] = {}
    for name, build, partition, position in found:
        kind = PROCESS if build == PROCESSES_BUILD else PROJECTION
        positions.setdefault((kind, name), {})[partition] = position
    if timelines:
        positions[PROJECTION, TIMELINES] = dict(timelines)
    return [Follower(kind, name, of_it) for (kind, name), of_it in sorted(positions.items())]


async def slices_after(connection: Connection, positions: set[int]) -> dict[int, Slice]:
    """What the log holds behind each of these positions."""
    found = await rows(connection, SLICES, [sorted(positions), SLICE_LINES])
    lines = {position: Line(position, *rest) for _, position, *rest in found}
    events = {recorded.position: recorded for recorded in decode_lines(lines.values())[0]}
    slices = {position: Slice(position, (), whole=True) for position in positions}
    for after, following in groupby(found, lambda row: int(row[0])):
        held = [row[1] for row in following]
        readable = [events[position] for position in held if position in events]
        slices[after] = Slice(after, readable, whole=len(held) < SLICE_LINES)
    return slices


async def open_checkouts(connection: Connection) -> Checkouts:
    schema = next(
        (
            f"{name}_b{build}"
            for name, build in await rows(connection, BUILDS)
            if name == "checkouts"
        ),
        None,
    )
    if schema is None:
        return Checkouts(by_status={}, oldest_seconds=0.0, problems=0)
    now = time.time()
    begun_after = int((now - OPEN_FOR_SECONDS) * 1000 - EPOCH_MS) << RANDOM_BITS
    table = sql.Identifier(schema, "checkouts")
    try:
        found = await rows(connection, sql.SQL(CHECKOUTS).format(table), [OPEN, begun_after])
        ((problems,),) = await rows(connection, sql.SQL(PROBLEMS).format(table), [OPEN])
    except psycopg.errors.UndefinedTable:
        # Another build was switched to at this moment, and this one dropped: next time, then.
        return Checkouts(by_status={}, oldest_seconds=0.0, problems=0)
    oldest = min((begun(number) for *_, number in found), default=now)
    return Checkouts(
        by_status={status: count for status, count, _ in found},
        oldest_seconds=max(0.0, now - oldest),
        problems=problems,
    )


def begun(id_number: int) -> float:
    """When something with this id was made, in seconds since 1970."""
    return ((id_number >> RANDOM_BITS) + EPOCH_MS) / 1000
