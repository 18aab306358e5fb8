"""Making builds of read tables in PostgreSQL: `infra.runtime.rebuilding.rebuild.Builds`."""

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import psycopg

from infra.adapters.connections import ConnectionCut, closing, connect, connected, while_alive
from infra.adapters.tables import projection_builds
from infra.adapters.tables.build_comparison import Comparison, open_comparison
from infra.adapters.tables.postgres_projections import PostgresProjections
from infra.adapters.tables.projection_builds import Connection
from infra.ports.keepers import AlreadyRebuilding, Build
from infra.ports.tables import ReadModel, StoreUnavailable

SWITCH_SETTINGS = {"lock_timeout": "10s", "idle_in_transaction_session_timeout": "60s"}
UNFINISHED = ("building", "built")

HOLD_LIVE = """
    SELECT c.partition, c.position FROM public.checkpoints c
    JOIN public.projection_builds b ON b.name = c.projection AND b.build = c.build
    WHERE b.status = 'live' AND b.name = ANY(%s)
    ORDER BY c.projection, c.build, c.partition FOR UPDATE OF c
"""
HOLD_BUILD = """
    SELECT FROM public.checkpoints WHERE projection = %s AND build = %s
    ORDER BY partition FOR UPDATE
"""
LIVE_POSITIONS = """
    SELECT c.partition, min(c.position) FROM public.checkpoints c
    JOIN public.projection_builds b ON b.name = c.projection AND b.build = c.build
    WHERE b.status = 'live' AND b.name = ANY(%s) GROUP BY c.partition
"""
# Positions rise with every event of either half; how many events lie between is dear to count.
LAG = """
    SELECT coalesce((SELECT max(notification_id) FROM log.events) - min(c.position), 0)
    FROM public.checkpoints c
    JOIN public.projection_builds b ON b.name = c.projection AND b.build = c.build
    WHERE b.status = 'live'
"""
TAKE_TURN = "SELECT pg_try_advisory_lock(7881702, hashtext(%s))"
COPY_DISCARDED = """
    INSERT INTO public.dead_letters (projection, build, key, partition, position, stream, version,
        tag, state, error, trace, attempts, status, why, parked_at, settled_at)
    SELECT d.projection, %s, d.key, d.partition, d.position, d.stream, d.version,
        d.tag, d.state, d.error, d.trace, d.attempts, d.status, d.why, d.parked_at, d.settled_at
    FROM public.dead_letters d
    JOIN public.projection_builds b ON b.name = d.projection AND b.build = d.build
    WHERE b.name = %s AND b.status = 'live' AND d.status = 'discarded'
"""
DISCARDED = """
    SELECT projection, position FROM public.dead_letters d
    JOIN unnest(%s::text[], %s::integer[]) AS b (name, build)
        ON d.projection = b.name AND d.build = b.build
    WHERE d.status = 'discarded'
"""


class PostgresBuilds:
    def __init__(self, postgres_url: str) -> None:
        self._url = postgres_url

    @contextlib.asynccontextmanager
    async def alone(self, names: Collection[str]) -> AsyncIterator[None]:
        """See `Builds.alone`: the locks end with the connection, and so with this process. Should
        it be cut before, what goes on inside is ended soon: somebody else may begin."""
        try:
            connection = await connect(self._url, "plaza-rebuild")
        except (psycopg.Error, OSError) as problem:
            raise StoreUnavailable(str(problem)) from problem
        async with closing(connection):
            for name in sorted(names):
                row = await (await connection.execute(TAKE_TURN, [name])).fetchone()
                if row is None or not row[0]:
                    raise AlreadyRebuilding(f"{name} is being rebuilt by somebody else")
            try:
                async with while_alive(connection):
                    yield
            except ConnectionCut as problem:
                raise StoreUnavailable(
                    "the connection that keeps others from rebuilding was cut; run it again, and it"
                    f" goes on with what is there: {problem}"
                ) from problem

    async def builds_of(self, name: str) -> Sequence[Build]:
        async with self._transaction() as connection:
            return await projection_builds.builds_of(connection, name)

    async def start(
        self, projections: Sequence[ReadModel], codes: Mapping[str, str] | None = None
    ) -> dict[str, int]:
        """See `Builds.start`. Drops what an earlier start has left unfinished."""
        made = {}
        async with self._transaction() as connection:
            await connection.execute(projection_builds.TURN)
            for projection in projections:
                name = projection.name
                for old in await projection_builds.builds_of(connection, name):
                    if old.status in UNFINISHED:
                        await projection_builds.drop(connection, name, old.number)
                code = (codes or {}).get(name, "")
                build = await projection_builds.create(connection, projection, code)
                await projection_builds.defer(connection, projection, build)
                await connection.execute(COPY_DISCARDED, [build, name])
                made[name] = build
        return made

    @contextlib.asynccontextmanager
    async def loading(
        self, projections: Sequence[ReadModel], builds: Mapping[str, int]
    ) -> AsyncIterator[PostgresProjections]:
        store = PostgresProjections(self._url, projections, builds, deferred=True)
        try:
            yield store
        finally:
            await store.close()

    async def complete(self, projections: Sequence[ReadModel], builds: Mapping[str, int]) -> None:
        for projection in projections:
            name = projection.name
            async with self._transaction() as connection:
                # Whoever else is loading has finished what it writes, and sees that it is to stop.
                await connection.execute(HOLD_BUILD, [name, builds[name]])
                await projection_builds.raise_unless(connection, name, builds[name], "building")
                await projection_builds.complete(connection, projection, builds[name])

    @contextlib.asynccontextmanager
    async def completed(
        self, projections: Sequence[ReadModel], builds: Mapping[str, int]
    ) -> AsyncIterator[PostgresProjections]:
        store = PostgresProjections(self._url, projections, builds)
        try:
            yield store
        finally:
            await store.close()

    async def live_positions(self, projections: Sequence[ReadModel]) -> Mapping[int, int]:
        async with self._transaction() as connection:
            rows = await connection.execute(LIVE_POSITIONS, [names_of(projections)])
            return dict(await rows.fetchall())

    async def lag(self) -> int:
        async with self._transaction() as connection:
            row = await (await connection.execute(LAG)).fetchone()
        return 0 if row is None else int(row[0])

    async def discarded(self, builds: Mapping[str, int]) -> Mapping[str, frozenset[int]]:
        found: dict[str, set[int]] = {name: set() for name in builds}
        async with self._transaction() as connection:
            rows = await connection.execute(DISCARDED, [list(builds), list(builds.values())])
            for name, position in await rows.fetchall():
                found[name].add(position)
        return {name: frozenset(positions) for name, positions in found.items()}

    @contextlib.asynccontextmanager
    async def switching(
        self, projections: Sequence[ReadModel], builds: Mapping[str, int]
    ) -> AsyncIterator[int]:
        names = names_of(projections)
        async with self._transaction() as connection:
            await connection.execute(projection_builds.TURN)
            rows = await connection.execute(HOLD_LIVE, [names])
            # Readers that have seen a position must never be shown less.
            yield max((position for _, position in await rows.fetchall()), default=0)
            for name in names:
                await projection_builds.raise_unless(connection, name, builds[name], "built")
                await projection_builds.make_live(connection, name, builds[name])

    @contextlib.asynccontextmanager
    async def comparing(self, projection: ReadModel, build: int) -> AsyncIterator[Comparison]:
        """See `Builds.comparing`."""
        async with contextlib.AsyncExitStack() as stack:
            holding = await stack.enter_async_context(contextlib.AsyncExitStack())
            connection = await holding.enter_async_context(self._transaction())
            rows = await connection.execute(HOLD_LIVE, [[projection.name]])
            positions = dict(await rows.fetchall())
            opened = open_comparison(self._url, projection, build, positions, holding.aclose)
            yield await stack.enter_async_context(opened)

    async def revive(self, name: str, build: int) -> None:
        """See `Builds.revive`."""
        async with self._transaction() as connection:
            await connection.execute(projection_builds.TURN)
            await projection_builds.revive(connection, name, build)

    async def drop_retired(self, names: Collection[str], keep_seconds: float) -> int:
        """See `Builds.drop_retired`."""
        dropped = 0
        async with self._transaction() as connection:
            for name in names:
                builds = await projection_builds.builds_of(connection, name)
                retired = [build for build in builds if build.status == "retired"]
                for place, old in enumerate(retired):
                    if place > 0 or old.seconds > keep_seconds:
                        await projection_builds.drop(connection, name, old.number)
                        dropped += 1
        return dropped

    async def drop(self, builds: Mapping[str, int]) -> None:
        async with self._transaction() as connection:
            for name, build in builds.items():
                await projection_builds.drop(connection, name, build)

    async def outdated(self, projections: Sequence[ReadModel]) -> list[str]:
        """Projections whose live tables were made by an earlier version of them."""
        async with self._transaction() as connection:
            live = await projection_builds.live_builds(connection)
        return [p.name for p in projections if p.name in live and live[p.name][1] < p.version]

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        try:
            async with (
                connected(self._url, "plaza-builds", SWITCH_SETTINGS) as connection,
                connection.transaction(),
            ):
                yield connection
        except (psycopg.OperationalError, OSError) as error:
            raise StoreUnavailable(str(error)) from error


def names_of(projections: Sequence[ReadModel]) -> list[str]:
    return [projection.name for projection in projections]
