"""The read tables in PostgreSQL: every query that a page makes, the pull path among them.

Rows carry the range of log positions in which they held, so that one query answers a page as of
any position. Tables are found through the search path, which names the builds being served.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from infra.adapters.connections import PARAMETERS, bounded
from infra.adapters.log import log_moments
from infra.adapters.log.log_moments import MomentsBehind
from infra.adapters.reads import read_queries as queries
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.ports.log import OPEN
from infra.ports.reads import (
    Cards,
    CountsRow,
    Edge,
    EntryRow,
    MemberRow,
    PostRow,
    Profiles,
    Pulled,
    ReadsUnavailable,
    RepostRow,
    ViewerRow,
    Way,
)

log = structlog.get_logger(__name__)

Parameters = Mapping[str, Any] | Sequence[Any]

CONNECTIONS_MAX = 8
STATEMENT_SECONDS = 5
ANSWER_SECONDS = STATEMENT_SECONDS + 1.0
FOLLOW_SECONDS = 1.0


class Connections:
    """A few connections whose search path names the builds being served.

    `generation` grows when others are served from now on, or may be.
    """

    def __init__(self, url: str, size: int = CONNECTIONS_MAX) -> None:
        self._url = url
        # With the generation that each knows its path from.
        self._idle: list[tuple[int, AsyncConnection[TupleRow]]] = []
        self._slots = asyncio.Semaphore(size)
        self._path = ""
        self._oldest = 0
        self._closed = False
        self._on_renewed: list[Callable[[str], None]] = []
        self.generation = 0

    def on_renewed(self, call: Callable[[str], None]) -> None:
        """Have this called whenever `generation` grows, before anybody asks anything again: with
        the projection of which others are served, or with nothing where it may be any."""
        self._on_renewed.append(call)

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[AsyncConnection[TupleRow]]:
        """A connection for one query. One that anything went wrong on is not used again."""
        async with self._slots:
            generation, connection = await self._ready()
            done = False
            try:
                with bounded(connection, ANSWER_SECONDS):
                    yield connection
                done = True
            finally:
                fit = done and generation >= self._oldest and not connection.closed
                if fit and not self._closed:
                    self._idle.append((generation, connection))
                else:
                    await connection.close()

    def look_again(self, switched: str = "") -> None:
        """Use no path again that was looked up before this. See `on_renewed`."""
        self.generation += 1
        self._path = ""
        for call in self._on_renewed:
            call(switched)

    async def renew(self) -> None:
        """Use no connection again that was made before this."""
        self.look_again()
        self._oldest = self.generation
        await self._close_idle()

    async def close(self) -> None:
        """Keep no connection from now on: whoever still asks has one for that question alone."""
        self._closed = True
        await self.renew()

    async def _close_idle(self) -> None:
        idle, self._idle = self._idle, []
        for _, connection in idle:
            await connection.close()

    async def _ready(self) -> tuple[int, AsyncConnection[TupleRow]]:
        """An idle connection if there is one, with the generation that its path is of.

        One that is open already is worth keeping through a switch: the pages made then would have
        to wait for another, and for a server process that knows nothing yet.
        """
        while self._idle:
            known, connection = self._idle.pop()
            generation = self.generation
            if known == generation:
                return known, connection
            if await self._follow(connection):
                return generation, connection
            # The others that were idle then are as dead as this one.
            await connection.close()
            await self._close_idle()
        generation = self.generation
        return generation, await self._open()

    async def _follow(self, connection: AsyncConnection[TupleRow]) -> bool:
        """Have it look in what is served now; answers whether it is alive."""
        try:
            with bounded(connection, FOLLOW_SECONDS):
                # A statement may answer other types than it did from the tables before.
                await connection.execute("DEALLOCATE ALL")
                await self._find_path(connection)
        except psycopg.Error:
            return False
        except BaseException:
            await connection.close()
            raise
        return True

    async def _open(self) -> AsyncConnection[TupleRow]:
        connection = await AsyncConnection.connect(
            self._url,
            autocommit=True,
            application_name="plaza-reads",
            prepare_threshold=1,
            options=f"-c statement_timeout={STATEMENT_SECONDS}s -c timezone=UTC",
            **PARAMETERS,
        )
        try:
            await self._find_path(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _find_path(self, connection: AsyncConnection[TupleRow]) -> None:
        path = await set_search_path(connection)
        if self._path not in ("", path):
            # What the others look in is not served any more; nobody has told us yet.
            self.look_again()
        self._path = path


async def set_search_path(connection: AsyncConnection[Any]) -> str:
    """Have tables found in the builds that are served; answers the path."""
    found = await connection.execute(
        "SELECT name || '_b' || build FROM public.projection_builds WHERE status = 'live'"
    )
    schemas = sorted(row[0] for row in await found.fetchall())
    path = ", ".join([*schemas, "public"])
    await connection.execute("SELECT set_config('search_path', %s, false)", (path,))
    return path


class PostgresReads:
    """`infra.ports.reads.Reads` over PostgreSQL."""

    def __init__(self, url: str, connections_max: int = CONNECTIONS_MAX) -> None:
        self._connections = Connections(url, connections_max)

    @property
    def connections(self) -> Connections:
        return self._connections

    async def close(self) -> None:
        await self._connections.close()

    async def renew(self, switched: str = "") -> None:
        self._connections.look_again(switched)

    async def checkpoints(self, projections: Collection[str]) -> Mapping[str, Mapping[int, int]]:
        rows = await self._rows(queries.CHECKPOINTS, projections=list(projections))
        found: dict[str, dict[int, int]] = {
            name: dict.fromkeys(SOCIAL_PARTITIONS, 0) for name in projections
        }
        for name, partition, position in rows:
            found[name][partition] = position
        return found

    async def position_at(self, moment: datetime) -> int:
        try:
            return await log_moments.position_at(self._statement, moment)
        except MomentsBehind as behind:
            raise ReadsUnavailable(str(behind)) from behind

    async def index_moments(self, seconds: float) -> None:
        """Have the index of times ready for whoever asks for a position by one."""
        with contextlib.suppress(MomentsBehind):
            await log_moments.extend(self._statement, seconds)

    async def head(self) -> int:
        return int((await self._rows(queries.HEAD))[0][0])

    async def pull(self, member_id: int, position: int) -> Pulled:
        rows = await self._rows(queries.PULL, member=member_id, at=position)
        return Pulled(position, [EntryRow(*row) for row in rows])

    async def cards(
        self,
        positions: Collection[int] = (),
        post_ids: Collection[int] = (),
        entries: Collection[int] = (),
        member_ids: Collection[int] = (),
    ) -> Cards:
        wanted = {
            "positions": list(positions),
            "post_ids": list(post_ids),
            "entries": list(entries),
            "member_ids": list(member_ids),
        }
        members, posts, reposts = await self._pipelined(
            [queries.MEMBERS_OF_CARDS, queries.CARDS, queries.REPOSTS], wanted
        )
        return Cards(
            [PostRow(*row) for row in posts],
            [RepostRow(*row) for row in reposts],
            [MemberRow(*row) for row in members],
        )

    async def cards_at(
        self, position: int, positions: Collection[int] = (), post_ids: Collection[int] = ()
    ) -> Cards:
        rows = await self._rows(
            queries.POSTS_AT, at=position, positions=list(positions), post_ids=list(post_ids)
        )
        posts = [PostRow(*row) for row in rows]
        members = await self.members_at(position, {post.author_id for post in posts})
        return Cards(posts, (), members)

    async def members_at(self, position: int, member_ids: Collection[int]) -> Sequence[MemberRow]:
        rows = await self._rows(queries.MEMBERS_AT, at=position, member_ids=list(member_ids))
        return [MemberRow(*row) for row in rows]

    async def viewer(self, member_id: int) -> ViewerRow:
        hides, engaged = await self._pipelined(
            [queries.HIDDEN_NOW, queries.ENGAGED_NEWEST], {"member": member_id}
        )
        hidden, blocked = _hidden(hides)
        liked = [post for post, is_repost in engaged if not is_repost]
        reposted = [post for post, is_repost in engaged if is_repost]
        complete = max(len(liked), len(reposted)) < queries.ENGAGED_MAX
        return ViewerRow(hidden, blocked, frozenset(liked), frozenset(reposted), complete)

    async def hidden_at(
        self, position: int, member_id: int
    ) -> tuple[frozenset[int], frozenset[int]]:
        return _hidden(await self._rows(queries.HIDDEN, at=position, member=member_id))

    async def hides_of(self, member_id: int) -> frozenset[tuple[int, str]]:
        return frozenset(await self._rows(queries.HIDES_OF, member=member_id))

    async def engaged(
        self, member_id: int, posts: Collection[int], position: int = OPEN
    ) -> tuple[frozenset[int], frozenset[int]]:
        rows = await self._rows(
            queries.ENGAGED, member=member_id, posts=list(posts), at=_at(position)
        )
        liked = frozenset(post for post, is_repost in rows if not is_repost)
        return liked, frozenset(post for post, is_repost in rows if is_repost)

    async def member_named(self, username_key: str, position: int = OPEN) -> int | None:
        rows = await self._rows(queries.MEMBER_NAMED, key=username_key, at=_at(position))
        return int(rows[0][0]) if rows else None

    async def profiles(self, member_ids: Collection[int], viewer_id: int) -> Profiles:
        wanted = {"member_ids": list(member_ids), "member": viewer_id, "at": OPEN - 1}
        members, counts, following = await self._pipelined(
            [queries.MEMBERS_AT, queries.COUNTS, queries.FOLLOWING_AMONG], wanted
        )
        return Profiles(
            [MemberRow(*row) for row in members],
            [CountsRow(*row) for row in counts],
            frozenset(row[0] for row in following),
        )

    async def counts_at(self, position: int, member_id: int) -> CountsRow:
        return CountsRow(*(await self._rows(queries.COUNTS_AT, at=position, member=member_id))[0])

    async def following_among(
        self, member_id: int, others: Collection[int], position: int = OPEN
    ) -> frozenset[int]:
        rows = await self._rows(
            queries.FOLLOWING_AMONG, member=member_id, member_ids=list(others), at=_at(position)
        )
        return frozenset(row[0] for row in rows)

    async def followed_since(self, member_id: int, others: Collection[int]) -> Mapping[int, int]:
        rows = await self._rows(
            queries.FOLLOWING_AMONG, member=member_id, member_ids=list(others), at=OPEN - 1
        )
        return dict(rows)

    async def posts_of(self, author_id: int, before: int, limit: int) -> Sequence[int]:
        rows = await self._rows(queries.POSTS_OF, member=author_id, before=before, limit=limit)
        return [row[0] for row in rows]

    async def replies_under(self, post_id: int, after: int, limit: int) -> Sequence[int]:
        rows = await self._rows(queries.REPLIES_UNDER, post=post_id, after=after, limit=limit)
        return [row[0] for row in rows]

    async def followers(self, member_id: int, at: int, before: int, limit: int) -> Sequence[Edge]:
        rows = await self._rows(
            queries.FOLLOWERS, member=member_id, at=at, before=before, limit=limit
        )
        return [Edge(*row) for row in rows]

    async def followees(self, member_id: int, at: int, before: int, limit: int) -> Sequence[Edge]:
        rows = await self._rows(
            queries.FOLLOWEES, member=member_id, at=at, before=before, limit=limit
        )
        return [Edge(*row) for row in rows]

    async def brought(self, member_id: int, post_ids: Collection[int]) -> Mapping[int, int]:
        return dict(await self._rows(queries.BROUGHT, member=member_id, post_ids=list(post_ids)))

    async def ways(self, member_id: int, post_id: int, position: int) -> Sequence[Way]:
        rows = await self._rows(queries.WAYS, member=member_id, post=post_id, at=position)
        return [Way(*row) for row in rows]

    async def ended_sessions(self, after: int) -> Sequence[tuple[str, int, int]]:
        return [
            (row[0], row[1], row[2])
            for row in await self._rows(queries.ENDED_SESSIONS, after=after)
        ]

    async def erased_members(self) -> Sequence[int]:
        return [row[0] for row in await self._rows(queries.ERASED_MEMBERS)]

    async def _rows(self, statement: str, **parameters: Any) -> list[Any]:
        return await self._statement(statement, parameters)

    async def _statement(self, statement: str, parameters: Parameters) -> list[Any]:
        return (await self._pipelined([statement], parameters))[0]

    async def _pipelined(
        self, statements: Sequence[str], parameters: Parameters
    ) -> list[list[Any]]:
        """The rows of each statement, all asked in one round trip."""
        try:
            return await self._ask(statements, parameters)
        except psycopg.errors.UndefinedTable:
            # Another build was switched to and the one on our search path renamed.
            self._connections.look_again()
        except psycopg.OperationalError:
            # An idle connection may have died with the server that it was made to; what is idle
            # beside it did too. A server that is really gone refuses the second try.
            await self._connections.renew()
        try:
            return await self._ask(statements, parameters)
        except psycopg.Error as error:
            log.warning("reads.unavailable", error=str(error))
            raise ReadsUnavailable(str(error)) from error

    async def _ask(self, statements: Sequence[str], parameters: Parameters) -> list[list[Any]]:
        async with self._connections.take() as connection:
            if len(statements) == 1:
                cursor = connection.cursor(binary=True)
                await cursor.execute(statements[0], parameters)
                return [await cursor.fetchall()]
            cursors = [connection.cursor(binary=True) for _ in statements]
            async with connection.pipeline():
                for cursor, statement in zip(cursors, statements, strict=True):
                    await cursor.execute(statement, parameters)
            return [await cursor.fetchall() for cursor in cursors]


def _at(position: int) -> int:
    # A row that holds now has `until = OPEN`, so now is the last position before that.
    return min(position, OPEN - 1)


def _hidden(rows: Sequence[tuple[int, str]]) -> tuple[frozenset[int], frozenset[int]]:
    everyone = frozenset(member for member, _ in rows)
    return everyone, frozenset(member for member, kind in rows if kind == "block")
