"""What a member has left standing, read from the read tables that are live.

Those of the shops are read where there are such: a square may run without the half that sells.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from domain.shared.identifiers import id_number, id_text
from infra.adapters.pools import Connection, Pooled, Row
from infra.adapters.tables.projection_builds import search_path
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.ports.log import OPEN
from infra.ports.processes import Trace, TraceKind

CONNECTIONS_MAX = 2
PAGE_ROWS = 2_000

PROJECTIONS = ("graph", "posts", "engagement")
SHOPS = "products"


@dataclass(frozen=True)
class Source:
    """Where traces of one kind are: rows that hold now and name the member in `member`."""

    kind: TraceKind
    table: str
    member: str
    other: str
    only: str = "true"

    @property
    def query(self) -> str:
        return (
            f"SELECT {self.other} FROM {self.table}"  # noqa: S608
            f" WHERE {self.member} = %s AND until = {OPEN} AND {self.only} AND {self.other} > %s"
            f" ORDER BY {self.other} LIMIT {PAGE_ROWS}"
        )


# What others can read goes first.
SOURCES = (
    Source("post", "posts", "author_id", "post_id"),
    Source("repost", "reposts", "member_id", "post_id"),
    Source("follower", "follows", "followee_id", "follower_id"),
    Source("following", "follows", "follower_id", "followee_id"),
    Source("like", "likes", "member_id", "post_id"),
)
DESCRIBED = Source("product", "products", "seller_id", "product_id", only="title IS NOT NULL")

POSITION = """
    SELECT count(*) FILTER (WHERE c.partition = ANY(%s)), min(c.position)
    FROM public.checkpoints c
    JOIN public.projection_builds b ON b.name = c.projection AND b.build = c.build
    WHERE b.status = 'live' AND c.projection = ANY(%s)
"""
SELLS = "SELECT 1 FROM public.projection_builds WHERE name = %s AND status = 'live'"


class PostgresMemberTraces(Pooled):
    """`ports.processes.MemberTraces` on the tables of the graph, posts, engagement and products."""

    pool_name = "plaza-traces"
    connections_max = CONNECTIONS_MAX

    async def of(self, member_id: str) -> AsyncIterator[Sequence[Trace]]:
        for source in (*SOURCES, *((DESCRIBED,) if await self._sells() else ())):
            last = -1
            while True:
                rows = await self._page(source, id_number(member_id), last)
                if rows:
                    yield [Trace(source.kind, id_text(row[0])) for row in rows]
                    last = rows[-1][0]
                if len(rows) < PAGE_ROWS:
                    break

    async def position(self) -> int:
        partitions = list(SOCIAL_PARTITIONS)
        rows = await self._pool.rows(POSITION, [partitions, [*PROJECTIONS, SHOPS]])
        count, least = rows[0]
        # A projection without tables yet shows nothing of what it will show.
        return int(least) if count == len(PROJECTIONS) * len(partitions) else 0

    async def _sells(self) -> bool:
        return bool(await self._pool.rows(SELLS, [SHOPS]))

    async def _page(self, source: Source, member: int, after: int) -> Sequence[Row]:
        async def read(connection: Connection) -> Sequence[Row]:
            async with connection.transaction():
                # The live builds may change between two pages.
                path = await search_path(connection)
                await connection.execute("SELECT set_config('search_path', %s, true)", [path])
                rows = await connection.execute(source.query, [member, after])
                return await rows.fetchall()

        return await self._pool.run(read)
