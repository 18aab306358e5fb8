"""Making builds of read tables in PostgreSQL: `infra.runtime.rebuild.Builds`."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

import psycopg

from infra.adapters import projection_builds
from infra.adapters.connections import connect
from infra.adapters.postgres_projections import PostgresProjections
from infra.adapters.projection_builds import Connection
from infra.tables import ReadModel, StoreUnavailable

SWITCH_SETTINGS = {"lock_timeout": "10s", "idle_in_transaction_session_timeout": "60s"}

HOLD_LIVE = """
    SELECT c.position FROM public.checkpoints c
    JOIN public.projection_builds b ON b.name = c.projection AND b.build = c.build
    WHERE b.status = 'live' AND b.name = ANY(%s)
    ORDER BY c.projection, c.build, c.partition FOR UPDATE OF c
"""


class PostgresBuilds:
    def __init__(self, postgres_url: str) -> None:
        self._url = postgres_url

    async def start(self, projections: Sequence[ReadModel]) -> dict[str, int]:
        """See `Builds.start`. Drops what an earlier start has left, finished or not."""
        made = {}
        async with self._transaction() as connection:
            await connection.execute(projection_builds.TURN)
            for projection in projections:
                for old in await projection_builds.leftovers(connection, projection.name):
                    await projection_builds.drop(connection, projection.name, old)
                build = await projection_builds.create(connection, projection)
                await projection_builds.defer(connection, projection, build)
                made[projection.name] = build
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
            async with self._transaction() as connection:
                await projection_builds.complete(connection, projection, builds[projection.name])

    @contextlib.asynccontextmanager
    async def completed(
        self, projections: Sequence[ReadModel], builds: Mapping[str, int]
    ) -> AsyncIterator[PostgresProjections]:
        store = PostgresProjections(self._url, projections, builds)
        try:
            yield store
        finally:
            await store.close()

    @contextlib.asynccontextmanager
    async def switching(
        self, projections: Sequence[ReadModel], builds: Mapping[str, int]
    ) -> AsyncIterator[int]:
        names = [projection.name for projection in projections]
        async with self._transaction() as connection:
            await connection.execute(projection_builds.TURN)
            rows = await connection.execute(HOLD_LIVE, [names])
            # Readers that have seen a position must never be shown less.
            yield max((position for (position,) in await rows.fetchall()), default=0)
            for name in names:
                await projection_builds.make_live(connection, name, builds[name])

    async def drop_retired(self, projections: Sequence[ReadModel]) -> None:
        """Remove what was served before, once no reader looks at it any more."""
        async with self._transaction() as connection:
            for projection in projections:
                for old in await projection_builds.leftovers(connection, projection.name):
                    await projection_builds.drop(connection, projection.name, old)

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
                await connect(self._url, "plaza-builds", SWITCH_SETTINGS) as connection,
                connection.transaction(),
            ):
                yield connection
        except (psycopg.OperationalError, OSError) as error:
            raise StoreUnavailable(str(error)) from error
