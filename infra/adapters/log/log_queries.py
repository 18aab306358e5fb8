"""Questions to the log that PostgreSQL answers itself, without handing out every row.

They read the log in stretches, each a statement of its own: none is long enough to be cut off, or
to hold up the cleaning of the tables.

Some look into `state` (`infra.formats.codec.Envelope` as msgpack): the ids of correlation and
causation are short texts near its beginning, and `log.recorded_at` reads the time there.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import date

from msgspec import Struct

from infra.adapters.log.event_log import COLUMNS, READER_SETTINGS
from infra.adapters.log.log_listener import HEAD
from infra.adapters.pools import Pooled
from infra.formats.codec import Line

STRETCH = 100_000
CONNECTIONS_MAX = 2

AT = f"SELECT {COLUMNS} FROM log.events WHERE notification_id = ANY(%s)"  # noqa: S608
HOLDING = f"""
    SELECT {COLUMNS} FROM log.events
    WHERE notification_id > %s AND notification_id <= %s
        AND position(%s::bytea IN substring(state FROM 1 FOR %s)) > 0
    ORDER BY notification_id
"""  # noqa: S608

SUMMED = """
    WITH read AS (
        SELECT notification_id, topic, octet_length(state) AS size,
            log.recorded_at(state) / 1000000 AS seconds
        FROM log.events WHERE notification_id > %s AND notification_id <= %s
    )
    SELECT (to_timestamp(seconds) AT TIME ZONE 'UTC')::date, topic, count(*), sum(size)::bigint,
        min(notification_id), max(notification_id)
    FROM read GROUP BY 1, 2
"""
KEYS_AT_ONCE = 5_000
PERSON_KEYS = """
    SELECT person_id, key FROM vault.person_keys WHERE person_id > %s ORDER BY person_id LIMIT %s
"""
SERVICE_SECRETS = "SELECT value FROM vault.secrets"
DISK_BYTES = "SELECT pg_total_relation_size('log.events')"

Progress = Callable[[int, int], None]
"""Told the position reached and the one it goes to."""


class Summed(Struct, frozen=True, kw_only=True):
    """What the log holds of one type and day. Without a day the row's time could not be read."""

    day: date | None
    tag: str
    events: int
    bytes: int
    first: int
    last: int


class LogQueries(Pooled):
    """Raises `LogUnavailable`, as the log does."""

    pool_name = "plaza-log-queries"
    connections_max = CONNECTIONS_MAX
    pool_settings = READER_SETTINGS

    async def head(self) -> int:
        return int((await self._pool.rows(HEAD))[0][0])

    async def at(self, positions: Sequence[int]) -> Sequence[Line]:
        return [Line(*row) for row in await self._pool.rows(AT, [list(positions)])]

    async def holding(
        self, text: str, after: int, last: int, *, within_bytes: int
    ) -> AsyncGenerator[Line, None]:
        """The rows that have this text among the first bytes of their state, in order."""
        while after < last:
            end = min(after + STRETCH, last)
            for row in await self._pool.rows(HOLDING, [after, end, text.encode(), within_bytes]):
                yield Line(*row)
            after = end

    async def sums(self, progress: Progress = lambda _reached, _head: None) -> list[Summed]:
        """Events and bytes of every type and day, up to the log's present end."""
        found: dict[tuple[date | None, str], Summed] = {}
        after, head = 0, await self.head()
        while after < head:
            end = min(after + STRETCH, head)
            for day, tag, events, size, first, last in await self._pool.rows(SUMMED, [after, end]):
                known = found.get((day, tag))
                found[day, tag] = Summed(
                    day=day,
                    tag=tag,
                    events=events + (known.events if known else 0),
                    bytes=size + (known.bytes if known else 0),
                    first=known.first if known else first,
                    last=last,
                )
            after = end
            progress(after, head)
        return list(found.values())

    async def keys(self) -> AsyncGenerator[bytes, None]:
        """Every key there is: of persons, and of the services."""
        last = ""
        while rows := await self._pool.rows(PERSON_KEYS, [last, KEYS_AT_ONCE]):
            for _, key in rows:
                yield bytes(key)
            last = rows[-1][0]
        for (value,) in await self._pool.rows(SERVICE_SECRETS):
            yield bytes(value)

    async def disk_bytes(self) -> int:
        """What the log takes with its indexes."""
        return int((await self._pool.rows(DISK_BYTES))[0][0])
