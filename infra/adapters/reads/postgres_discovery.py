"""`infra.ports.discovery` over PostgreSQL: what trends, who is popular, whom one's follows follow.

A row holds from `since` (or its own `position`) up to, but not at, `until`.
"""
# ruff: noqa: S608 -- what is composed into these texts are constants of this module.

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from infra.adapters.reads.postgres_commerce_reads import Questions
from infra.adapters.reads.postgres_reads import PostgresReads
from infra.formats.codec import decode_state
from infra.ports.discovery import (
    HALF_LIFE,
    UNIT,
    WINDOW,
    Popular,
    PopularPost,
    SecondHop,
    TagChanges,
    TaggedPost,
    Trend,
    Uses,
    UsesRead,
)
from infra.ports.log import OPEN
from infra.ports.reads import ReadsUnavailable

CONNECTIONS_MAX = 3
"""Boards of the past and walks through the graph take long: no more of them at a time."""

FIRST_HOP_MAX = 300
SECOND_HOP_MAX = 200
TIES_MAX = 500
"""Whoever follows thousands is answered from the newest follows, and from theirs in turn."""

ROWS_AT_ONCE = 20_000
"""Tagged posts that one statement reads: a fraction of a second even where much else is done."""

NAMES_AT_ONCE = 5_000

RECOMMENDABLE_MAX = 20_000
"""So many of the newest tagged posts are looked through for what trends."""

CLOCKS_DIFFER = timedelta(minutes=1)
"""So much later than it was recorded a post may say that it was created."""

POSTGRES_EPOCH_SECONDS = 946_684_800

ORDERED_WEIGHS = 3
"""As much as so many products that are only in a cart."""

DECAY = f"power(0.5::float8, date_part('epoch', %(moment)s - at) / {HALF_LIFE.total_seconds()})"

# Bounded by the rows it looks at, not by those it finds; a tag is known by its hash, so that the
# names of a million tags need not be kept. Columns come whole, as numbers in network byte order.
USED = """
used AS (
    SELECT hashtextextended(tag, 0) AS tag, author_id, created_at, position
    FROM newest CROSS JOIN LATERAL unnest(tags) AS tag
    WHERE created_at > %(since)s AND until > %(at)s)
"""
COLUMNS = """
string_agg(int8send(tag), ''), string_agg(int8send(author_id), ''),
string_agg(timestamptz_send(created_at), ''), string_agg(int8send(position), '')
"""
USES = f"""
WITH newest AS MATERIALIZED (
    SELECT position, author_id, created_at, tags, until FROM tagged_posts
    WHERE position > %(after)s AND position <= %(last)s
    ORDER BY position DESC LIMIT {ROWS_AT_ONCE}),
{USED}
SELECT {COLUMNS}, (SELECT min(position) FROM newest), (SELECT count(*) FROM newest) FROM used
"""
USES_OF = f"""
WITH newest AS (
    SELECT position, author_id, created_at, tags, until FROM tagged_posts
    WHERE author_id = ANY(%(authors)s)),
{USED}
SELECT {COLUMNS} FROM used
"""
CHANGES = f"""
SELECT (
    SELECT array_agg(author_id) FROM (
        SELECT author_id FROM tagged_posts
        WHERE until > %(after)s AND until < {OPEN} AND created_at > %(since)s
        UNION SELECT author_id FROM forgotten WHERE position > %(after)s) AS changed),
    b.build, min(c.position)
FROM public.projection_builds b
JOIN public.checkpoints c ON c.projection = b.name AND c.build = b.build
WHERE b.name = 'tags' AND b.status = 'live' GROUP BY b.build
"""
NAMES = """
SELECT wanted.hash, tag
FROM unnest(%(tags)s::bigint[], %(positions)s::bigint[]) AS wanted (hash, position)
JOIN tagged_posts p ON p.position = wanted.position
CROSS JOIN LATERAL unnest(p.tags) AS tag
WHERE hashtextextended(tag, 0) = wanted.hash
"""

# Of each member the weightiest wish counts, once a category.
CATEGORIES = f"""
SELECT name, count(*) AS count, sum(weight)::bigint AS weight
FROM (
    SELECT p.category AS name, wanted.member_id, max(wanted.weight) AS weight
    FROM (
        SELECT member_id, product_id, round({UNIT} * {DECAY})::bigint AS weight
        FROM carted
        WHERE at > %(since)s AND at <= %(moment)s AND since <= %(at)s AND until > %(at)s
        UNION ALL
        SELECT member_id, product_id, round({ORDERED_WEIGHS * UNIT} * {DECAY})::bigint
        FROM ordered
        WHERE at > %(since)s AND at <= %(moment)s AND since <= %(at)s) wanted
    JOIN products p ON p.product_id = wanted.product_id
     AND p.since <= %(at)s AND p.until > %(at)s
    GROUP BY p.category, wanted.member_id) wished
GROUP BY name ORDER BY weight DESC, count DESC, name COLLATE "C" LIMIT %(limit)s
"""

EVENT_AT = """
SELECT notification_id, originator_id, originator_version, state FROM log.events
WHERE notification_id <= %(position)s ORDER BY notification_id DESC LIMIT 1
"""

POPULAR = """
SELECT member_id, followers FROM member_counts WHERE followers > 0
ORDER BY followers DESC, member_id LIMIT %(limit)s
"""
POSTS_OF_POPULAR = f"""
SELECT p.position, a.member_id, a.followers
FROM unnest(%(members)s::bigint[], %(followers)s::bigint[]) AS a (member_id, followers)
CROSS JOIN LATERAL (
    SELECT position FROM posts
    WHERE author_id = a.member_id AND until = {OPEN} AND reply_to IS NULL
    ORDER BY position DESC LIMIT %(each)s) p
"""
TAGGED = f"""
SELECT t.position, t.author_id, t.tags
FROM (SELECT * FROM tagged_posts ORDER BY position DESC LIMIT {RECOMMENDABLE_MAX}) t
WHERE t.created_at > %(after)s AND t.until = {OPEN} AND t.tags && %(tags)s::text[]
  AND EXISTS (SELECT FROM posts p
              WHERE p.position = t.position AND p.until = {OPEN} AND p.reply_to IS NULL)
ORDER BY t.position DESC LIMIT %(limit)s
"""

SECOND_HOP = f"""
WITH mine AS MATERIALIZED (
    SELECT followee_id, since FROM follows
    WHERE follower_id = %(member)s AND until = {OPEN}
    ORDER BY since DESC LIMIT {FIRST_HOP_MAX}
), found AS MATERIALIZED (
    SELECT hop.followee_id AS member_id, count(*) AS mutual,
           array_agg(mine.followee_id ORDER BY mine.since DESC) AS via
    FROM mine CROSS JOIN LATERAL (
        SELECT followee_id FROM follows
        WHERE follower_id = mine.followee_id AND until = {OPEN}
        ORDER BY since DESC LIMIT {SECOND_HOP_MAX}) hop
    WHERE hop.followee_id <> %(member)s
      AND hop.followee_id <> ALL(%(hidden)s::bigint[])
      AND (%(only)s::bigint[] IS NULL OR hop.followee_id = ANY(%(only)s::bigint[]))
      AND hop.followee_id NOT IN (
          SELECT followee_id FROM follows WHERE follower_id = %(member)s AND until = {OPEN})
    GROUP BY hop.followee_id
    ORDER BY mutual DESC, member_id LIMIT {TIES_MAX}
)
SELECT f.member_id, f.mutual, f.via[1:2]
FROM found f LEFT JOIN member_counts c ON c.member_id = f.member_id
ORDER BY f.mutual DESC, coalesce(c.followers, 0) DESC, f.member_id LIMIT %(limit)s
"""
EVER_FOLLOWED = """
SELECT DISTINCT followee_id FROM follows
WHERE follower_id = %(member)s AND followee_id = ANY(%(others)s)
"""


class PostgresDiscovery:
    """`infra.ports.discovery.Discovery`."""

    def __init__(self, url: str) -> None:
        self._ask = Questions(url, CONNECTIONS_MAX)

        self._log = PostgresReads(url, connections_max=1)

    async def close(self) -> None:
        await self._ask.close()
        await self._log.close()

    async def window_begins(self, moment: datetime) -> int:
        return await self._log.position_at(moment - WINDOW - CLOCKS_DIFFER)

    async def uses(self, after: int, last: int, since: datetime, position: int = OPEN) -> UsesRead:
        rows = await self._ask.rows(
            USES, after=after, last=last, since=since, at=min(position, OPEN - 1)
        )
        *columns, first, count = rows[0]
        return UsesRead(uses_in(columns), first if count == ROWS_AT_ONCE else None)

    async def uses_of(self, authors: Collection[int], since: datetime) -> Uses:
        rows = await self._ask.rows(USES_OF, authors=list(authors), since=since, at=OPEN - 1)
        return uses_in(rows[0])

    async def tag_changes(self, after: int, since: datetime) -> TagChanges:
        rows = await self._ask.rows(CHANGES, after=after, since=since)
        if not rows:
            raise ReadsUnavailable("there is no table of tags yet")
        authors, build, reached = rows[0]
        return TagChanges(build, reached, authors or ())

    async def tag_names(self, tags: Sequence[int], positions: Sequence[int]) -> Mapping[int, str]:
        found: dict[int, str] = {}
        for start in range(0, len(tags), NAMES_AT_ONCE):
            part = slice(start, start + NAMES_AT_ONCE)
            rows = await self._ask.rows(
                NAMES, tags=list(tags[part]), positions=list(positions[part])
            )
            found.update(rows)
        return found

    async def recorded_at(self, position: int) -> datetime | None:
        rows = await self._ask.rows(EVENT_AT, position=position)
        return decode_state(*rows[0]).recorded_at if rows else None

    async def popular(self, limit: int) -> Sequence[Popular]:
        return [Popular(*row) for row in await self._ask.rows(POPULAR, limit=limit)]

    async def posts_of_popular(
        self, popular: Sequence[Popular], each: int
    ) -> Sequence[PopularPost]:
        rows = await self._ask.rows(
            POSTS_OF_POPULAR,
            members=[one.member_id for one in popular],
            followers=[one.followers for one in popular],
            each=each,
        )
        return [PopularPost(*row) for row in rows]

    async def tagged(
        self, tags: Collection[str], after: datetime, limit: int
    ) -> Sequence[TaggedPost]:
        rows = await self._ask.rows(TAGGED, tags=list(tags), after=after, limit=limit)
        return [TaggedPost(*row) for row in rows]

    async def second_hop(
        self,
        member_id: int,
        hidden: Collection[int],
        limit: int,
        only: Collection[int] | None = None,
    ) -> Sequence[SecondHop]:
        rows = await self._ask.rows(
            SECOND_HOP,
            member=member_id,
            hidden=list(hidden),
            only=None if only is None else list(only),
            limit=limit,
        )
        return [SecondHop(*row) for row in rows]

    async def ever_followed(self, member_id: int, others: Collection[int]) -> frozenset[int]:
        rows = await self._ask.rows(EVER_FOLLOWED, member=member_id, others=list(others))
        return frozenset(row[0] for row in rows)


class PostgresDemand:
    """`infra.ports.discovery.Demand`."""

    def __init__(self, url: str) -> None:
        self._ask = Questions(url, 1)

    async def close(self) -> None:
        await self._ask.close()

    async def categories(
        self, moment: datetime, limit: int, position: int = OPEN
    ) -> Sequence[Trend]:
        # A row that holds now has `until = OPEN`, so now is the last position before that.
        rows = await self._ask.rows(
            CATEGORIES,
            moment=moment,
            since=moment - WINDOW,
            at=min(position, OPEN - 1),
            limit=limit,
        )
        return [Trend(*row) for row in rows]


def uses_in(columns: Sequence[bytes | None]) -> Uses:
    tags, authors, moments, positions = (
        np.frombuffer(column or b"", dtype=">i8").astype(np.int64) for column in columns
    )
    return Uses(tags, authors, moments // 1_000_000 + POSTGRES_EPOCH_SECONDS, positions)
