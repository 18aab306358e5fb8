"""One rebuild of a projection at a time, also where the connection is cut that sees to that."""

import asyncio
from collections.abc import Mapping, Sequence

import psycopg
import pytest

from infra.adapters import connections
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.tables.postgres_builds import PostgresBuilds
from infra.ports.tables import StoreUnavailable
from infra.runtime.frames.frames import frames_between
from infra.runtime.projecting.project import Projector
from infra.runtime.projecting.projection import Projection
from infra.runtime.rebuilding import rebuild as rebuilding
from infra.runtime.rebuilding.rebuild import Rebuilder, load
from projections import graph
from tests.integration.tables import contents
from tests.integration.test_verify import served

GRAPH = [graph.PROJECTION]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "RETIRE_SECONDS", 0.0)
    monkeypatch.setattr(connections, "ALIVE_EVERY_SECONDS", 0.05)


async def test_a_rebuild_whose_lock_is_gone_ends_and_is_gone_on_with(postgres_url: str) -> None:
    await served(postgres_url, 181, GRAPH)
    before = contents(postgres_url, GRAPH)
    log = await PostgresEventLog.open(postgres_url)
    builds = PostgresBuilds(postgres_url)
    loading = asyncio.Event()

    async def waits(
        projections: Sequence[Projection],  # noqa: ARG001
        made: Mapping[str, int],  # noqa: ARG001
        end: int | None,  # noqa: ARG001
    ) -> int:
        loading.set()
        await asyncio.Event().wait()
        return 0

    first = asyncio.create_task(Rebuilder(builds, log, loads=waits).rebuild(GRAPH, compare=True))
    await loading.wait()
    cut(postgres_url, "plaza-rebuild")
    with pytest.raises(StoreUnavailable, match="run it again"):
        await first
    (done,) = await Rebuilder(builds, log).rebuild(GRAPH, compare=True)
    assert (done.build, done.switched) == (2, True)
    await log.close()
    assert contents(postgres_url, GRAPH, build=2) == before


def cut(postgres_url: str, name: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        cut_off = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = %s",
            [name],
        )
        assert cut_off.fetchall() == [(True,)]


async def test_a_build_that_another_has_completed_is_not_written_any_more(
    postgres_url: str,
) -> None:
    await served(postgres_url, 182, GRAPH)
    before = contents(postgres_url, GRAPH)
    log = await PostgresEventLog.open(postgres_url)
    head = await log.head()
    builds = PostgresBuilds(postgres_url)
    made = await builds.start(GRAPH)
    frames = frames_between(0, head, await log.read_lines(0, head), graph.PROJECTION.partitions)
    async with builds.loading(GRAPH, made) as store:
        late = Projector(GRAPH, store, log)
        assert set((await late.checkpoints()).values()) == {0}
        await load(GRAPH, made, builds, log)
        with pytest.raises(StoreUnavailable, match="somebody else"):
            await late.apply(frames)
        with pytest.raises(StoreUnavailable, match="is built: somebody else"):
            await builds.complete(GRAPH, made)
    async with builds.switching(GRAPH, made):
        pass
    with pytest.raises(StoreUnavailable, match="is live: somebody else"):
        async with builds.switching(GRAPH, made):
            pass
    await log.close()
    assert contents(postgres_url, GRAPH, build=2) == before
