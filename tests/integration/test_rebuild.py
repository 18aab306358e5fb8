"""Builds: loaded anew beside the live tables, with the same contents, and switched to at once."""

import asyncio

import psycopg
import pytest

from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.tables.postgres_builds import PostgresBuilds
from infra.adapters.tables.postgres_projections import PostgresProjections
from infra.adapters.tables.projection_builds import search_path
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.ports.log import Recorded
from infra.ports.tables import Change, StoreUnavailable
from infra.runtime.frames.embedded import EmbeddedRunner
from infra.runtime.projecting.project import Projector
from infra.runtime.projecting.projection import Projection
from infra.runtime.rebuilding import rebuild as rebuilding
from infra.runtime.rebuilding.rebuild import Rebuilder, code_of, load
from projections import graph
from tests.builders import follow
from tests.integration.tables import SOCIAL, chain, contents, projector, random_log

COUNT = 3000


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "RETIRE_SECONDS", 0.0)


@pytest.fixture(params=[20_000, 300])
def _load_lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "LOAD_LINES", request.param)


@pytest.mark.usefixtures("_load_lines")
async def test_a_build_loaded_without_indexes_has_the_same_contents(postgres_url: str) -> None:
    events = await random_log(postgres_url, 41, COUNT)
    async with projector(postgres_url) as target:
        for frames in chain(events, 200):
            await target.apply(frames)
    log = await PostgresEventLog.open(postgres_url)
    builds = PostgresBuilds(postgres_url)
    made = await builds.start(SOCIAL)
    assert set(made.values()) == {2}
    await load(SOCIAL, made, builds, log)
    await log.close()
    assert contents(postgres_url, build=2) == contents(postgres_url, build=1)
    with psycopg.connect(postgres_url) as connection:
        assert index_names(connection, 2) == index_names(connection, 1)


def index_names(connection: psycopg.Connection[tuple[str]], build: int) -> list[str]:
    rows = connection.execute(
        "SELECT replace(indexdef, %s, '') FROM pg_indexes WHERE schemaname LIKE %s ORDER BY 1",
        [f"_b{build}", f"%_b{build}"],
    )
    return [row[0] for row in rows]


async def test_a_rebuild_beside_a_living_worker_switches_without_losing_anything(
    postgres_url: str,
) -> None:
    events = await random_log(postgres_url, 42, COUNT)
    log = await PostgresEventLog.open(postgres_url)
    async with projector(postgres_url) as target:
        await target.checkpoints()
        running = asyncio.create_task(EmbeddedRunner(log, target, SOCIAL_PARTITIONS).run())
        rebuilding_all = Rebuilder(PostgresBuilds(postgres_url), log).rebuild(SOCIAL)
        switching = asyncio.create_task(rebuilding_all)
        await append_more(log, 600)
        await switching
        await append_more(log, 100, stream="after")
        head = await log.head()
        async with asyncio.timeout(20):
            while min((await target.checkpoints()).values()) < head:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await log.close()
    with psycopg.connect(postgres_url) as connection:
        statuses = connection.execute("SELECT DISTINCT build, status FROM projection_builds")
        assert statuses.fetchall() == [(2, "live")]
        (followers,) = connection.execute("SELECT sum(followers) FROM graph_b2.member_counts")
    standing = contents(postgres_url, build=2)["follows"]
    assert followers[0] == len([row for row in standing if row[-1] == 2**63 - 1])
    assert len(standing) > 700
    assert len(events) == COUNT


async def append_more(log: PostgresEventLog, count: int, stream: str = "more") -> None:
    for number in range(count):
        one = follow(10_000_000 + number, 20_000_000 + number % 7)
        renamed = Recorded(
            stream=f"{stream}:{number}", version=1, recorded_at=one.recorded_at, event=one.event
        )
        await log.append([renamed])


async def test_a_rebuild_that_fails_leaves_what_is_live_and_is_gone_on_with(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "LOAD_LINES", 100)
    events = await random_log(postgres_url, 43, 500)
    async with projector(postgres_url) as target:
        for frames in chain(events, 200):
            await target.apply(frames)
    log = await PostgresEventLog.open(postgres_url)
    reached = []

    def interrupted(_what: str, position: int, _end: int) -> None:
        reached.append(position)
        if len(reached) == 3:
            raise KeyError("interrupted")

    builds = PostgresBuilds(postgres_url)
    with pytest.raises(KeyError, match="interrupted"):
        await Rebuilder(builds, log, interrupted).rebuild([graph.PROJECTION])
    assert statuses(postgres_url, "graph") == [(1, "live"), (2, "building")]
    (done,) = await Rebuilder(builds, log).rebuild([graph.PROJECTION], compare=True)
    await log.close()
    assert (done.build, done.switched, done.resumed_at) == (2, True, 300)
    assert statuses(postgres_url, "graph") == [(2, "live")]
    served = contents(postgres_url, [graph.PROJECTION], build=2)
    assert sum(len(rows) for rows in served.values()) > 100


async def test_a_build_of_other_code_is_begun_anew(postgres_url: str) -> None:
    await random_log(postgres_url, 46, 300)
    builds = PostgresBuilds(postgres_url)
    made = await builds.start([graph.PROJECTION], {"graph": "another code"})
    log = await PostgresEventLog.open(postgres_url)
    await load([graph.PROJECTION], made, builds, log)
    (done,) = await Rebuilder(builds, log).rebuild([graph.PROJECTION])
    await log.close()
    assert done.resumed_at == 0
    with psycopg.connect(postgres_url) as connection:
        codes = connection.execute("SELECT code FROM projection_builds").fetchall()
    assert codes == [(code_of(graph.PROJECTION),)]


def statuses(url: str, name: str) -> list[tuple[int, str]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT build, status FROM projection_builds WHERE name = %s ORDER BY build", [name]
        ).fetchall()


async def test_the_search_path_names_the_live_builds(postgres_url: str) -> None:
    await random_log(postgres_url, 44, 200)
    store = PostgresProjections(postgres_url, SOCIAL)
    await store.checkpoints()
    await store.close()
    log = await PostgresEventLog.open(postgres_url)
    await Rebuilder(PostgresBuilds(postgres_url), log).rebuild([graph.PROJECTION])
    await log.close()
    async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
        path = await search_path(connection)
    names = sorted(f"{one.name}_b{2 if one.name == 'graph' else 1}" for one in SOCIAL)
    assert path == ", ".join([*names, "public"])


async def test_a_worker_of_another_version_does_not_write_live_tables(postgres_url: str) -> None:
    def fold(_recorded: Recorded) -> list[Change]:
        return []

    await random_log(postgres_url, 45, 200)
    newer = Projection("graph", 2, graph.PROJECTION.handles, graph.PROJECTION.tables, fold)
    old = PostgresProjections(postgres_url, SOCIAL)
    await old.checkpoints()
    await old.close()
    builds = PostgresBuilds(postgres_url)
    assert await builds.outdated([newer]) == ["graph"]
    store = PostgresProjections(postgres_url, [newer])
    with pytest.raises(StoreUnavailable, match="live in version 1"):
        await store.checkpoints()
    log = await PostgresEventLog.open(postgres_url)
    await Rebuilder(builds, log).rebuild([newer])
    assert await builds.outdated([newer]) == []
    target = Projector([newer], store, log)
    assert set((await target.checkpoints()).values()) == {200}
    await store.close()
    await log.close()
