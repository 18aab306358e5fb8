"""What a fan-out asks of the read tables: followers, their number, and entries, as of positions."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import psycopg

from infra.adapters.reads.postgres_reads import Connections
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.ports.tables import StoreUnavailable
from infra.ports.timelines import Brought, Members

CONNECTIONS_MAX = 2
PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.005
POLL_SECONDS_MAX = 0.2

# How far the tables are that are served, and whether they are those of the search path.
REACHED = """
SELECT coalesce(min(c.position), 0),
       coalesce(bool_and(current_schemas(false) @> ARRAY[(b.name || '_b' || b.build)::name]), false)
FROM public.projection_builds b
LEFT JOIN public.checkpoints c
    ON c.projection = b.name AND c.build = b.build AND c.partition = %(partition)s
WHERE b.name IN ('graph', 'posts') AND b.status = 'live'
"""

CHECKPOINTS = """
SELECT c.partition, min(c.position)
FROM public.projection_builds b
JOIN public.checkpoints c ON c.projection = b.name AND c.build = b.build
WHERE b.name IN ('graph', 'posts') AND b.status = 'live'
GROUP BY c.partition HAVING count(*) = 2
"""

FOLLOWERS = """
SELECT a.author_id, f.followers
FROM unnest(%(authors)s::bigint[]) a (author_id) CROSS JOIN LATERAL (
    SELECT array_agg(follower_id) AS followers FROM (
        SELECT follower_id FROM follows
        WHERE followee_id = a.author_id AND since <= %(at)s AND until > %(at)s
        LIMIT %(limit)s) held) f
WHERE f.followers IS NOT NULL
"""

FOLLOWER_COUNT = """
SELECT count(*) FROM follows
WHERE followee_id = %(author)s AND since <= %(at)s AND until > %(at)s
"""

ENTRIES = """
SELECT position, post_position FROM entries
WHERE author_id = %(author)s AND position <= %(at)s
ORDER BY position DESC LIMIT %(limit)s
"""

# A repost shows nothing when it is taken back, nor when its post is deleted.
GONE = """
SELECT e.position FROM entries e LEFT JOIN posts p ON p.position = e.post_position
WHERE e.position = ANY(%(positions)s)
  AND (e.until < 9223372036854775807 OR p.until < 9223372036854775807)
"""


class PostgresTimelineSources:
    """`infra.ports.timelines.TimelineSources` over PostgreSQL. Raises `StoreUnavailable`."""

    def __init__(self, url: str) -> None:
        self._connections = Connections(url, CONNECTIONS_MAX)

    async def close(self) -> None:
        await self._connections.close()

    async def followers(
        self, partition: int, position: int, author_ids: Collection[int], limit: int
    ) -> Mapping[int, Members]:
        rows = await self._rows_as_of(
            partition, position, FOLLOWERS, authors=list(author_ids), limit=limit
        )
        return {author: np.array(followers, np.int64) for author, followers in rows}

    async def follower_count(self, partition: int, position: int, author_id: int) -> int:
        rows = await self._rows_as_of(partition, position, FOLLOWER_COUNT, author=author_id)
        return int(rows[0][0])

    async def entries(
        self, partition: int, position: int, author_id: int, limit: int
    ) -> Sequence[Brought]:
        rows = await self._rows_as_of(partition, position, ENTRIES, author=author_id, limit=limit)
        return [Brought(*row) for row in reversed(rows)]

    async def checkpoints(self) -> Mapping[int, int]:
        found = dict.fromkeys(SOCIAL_PARTITIONS, 0)
        rows = (await self._ask([CHECKPOINTS], {}))[0]
        return found | {partition: position for partition, position in rows if partition in found}

    async def gone(self, positions: Collection[int]) -> Collection[int]:
        rows = (await self._ask([GONE], {"positions": list(positions)}))[0]
        return [row[0] for row in rows]

    async def _rows_as_of(
        self, partition: int, position: int, statement: str, **parameters: Any
    ) -> Sequence[Any]:
        """Ask once the tables have got there: what held at a position does not change any more."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + PATIENCE_SECONDS
        pause = POLL_SECONDS
        bound = {"partition": partition, "at": position, **parameters}
        while True:
            reached, rows = await self._ask([REACHED, statement], bound)
            got_to, on_path = reached[0]
            if on_path and got_to >= position:
                return rows
            if clock() > deadline:
                raise StoreUnavailable(f"the tables are at {got_to}, not yet at {position}")
            if not on_path:
                await self._connections.renew()
            await asyncio.sleep(pause)
            pause = min(pause * 2, POLL_SECONDS_MAX)

    async def _ask(
        self, statements: Sequence[str], parameters: Mapping[str, Any]
    ) -> list[Sequence[Any]]:
        """The rows of each statement; asked once more where a connection turns out to be dead."""
        try:
            return await self._ask_once(statements, parameters)
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            await self._connections.renew()
        try:
            return await self._ask_once(statements, parameters)
        except psycopg.errors.UndefinedTable as error:
            raise StoreUnavailable("the tables have not been made yet") from error
        except psycopg.OperationalError as error:
            raise StoreUnavailable(str(error)) from error

    async def _ask_once(
        self, statements: Sequence[str], parameters: Mapping[str, Any]
    ) -> list[Sequence[Any]]:
        found: list[Sequence[Any]] = []
        async with self._connections.take() as connection:
            for statement in statements:
                cursor = connection.cursor(binary=True)
                await cursor.execute(statement, parameters)
                found.append(await cursor.fetchall())
        return found
