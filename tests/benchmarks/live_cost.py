"""What readers notice of a rebuild: p99 of feed pages during one by command, against without one.

Pages come from kept timelines, a few hundred a second; the rebuild loads, compares and switches.
"""

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import uvloop

from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.tables.postgres_builds import PostgresBuilds
from infra.composition.settings import Settings
from infra.runtime.rebuilding.rebuild import load
from infra.servers.postgres import start_postgres
from infra.servers.valkey import start_valkey
from tests.benchmarks.feed_world import (
    FeedWorld,
    Served,
    Size,
    filled,
    request,
    serve_feeds,
    served,
)
from tests.benchmarks.harness import Result, interleaved_latencies
from tests.benchmarks.page_times import for_seconds, p99, page_seconds
from tests.benchmarks.rebuild import fill
from tests.integration.tables import SOCIAL
from tests.square import Square

NAME = "live_cost"
TIMES_MAX = 1.3
EVENTS = 1_000_000
PROJECTION = "posts"
PAUSE_SECONDS = 0.02
QUIET_SECONDS = 20.0


class AfterMuch:
    """A square in which much has happened before, to other people."""

    def __init__(self, world: FeedWorld) -> None:
        self._world = world

    async def fill(self, square: Square) -> None:
        square.applied = await square.log.head()
        await self._world.fill(square)


def run(rounds: int) -> Result:
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        postgres, postgres_url = start_postgres(Path(folder) / "postgres")
        valkey, redis_url = start_valkey(Path(folder) / "valkey")
        try:
            return measured(postgres_url, redis_url, rounds)
        finally:
            postgres.stop()
            valkey.stop()


def measured(postgres_url: str, redis_url: str, rounds: int) -> Result:
    tokens = uvloop.run(prepared(postgres_url, redis_url))
    settings = Settings(postgres_url=postgres_url, redis_url=redis_url, query_api_port=0)
    requests = itertools.cycle([request("/api/feed", token) for token in tokens])
    with served(serve_feeds, settings) as server:

        def quiet() -> float:
            return slowest(server, requests, for_seconds(QUIET_SECONDS))

        def rebuilding() -> float:
            with subprocess.Popen(
                [
                    *(sys.executable, "-m", "infra.command_line.main"),
                    *("projections", "rebuild", PROJECTION, "--json"),
                ],
                env={
                    **os.environ,
                    "PLAZA_POSTGRES_URL": postgres_url,
                    "PLAZA_RETIRED_BUILD_HOURS": "0",
                },
                stdout=subprocess.DEVNULL,
            ) as process:
                seconds = slowest(server, requests, lambda: process.poll() is None)
            assert process.returncode == 0
            return seconds

        quiet()
        return interleaved_latencies(
            NAME, times_max=TIMES_MAX, rounds=rounds, measure=rebuilding, probe=quiet
        )


def slowest(server: Served, requests: Iterator[bytes], going: Callable[[], bool]) -> float:
    asking = page_seconds(server.port, requests, going, pause_seconds=PAUSE_SECONDS)
    return p99(uvloop.run(asking))


async def prepared(postgres_url: str, redis_url: str) -> list[str]:
    """A log with a past, all of it in the tables, and readers with timelines of their own; answers
    the readers' tokens."""
    await fill(postgres_url, EVENTS)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SELECT setval('log.events_notification_id_seq', %s)", [EVENTS])
    log = await PostgresEventLog.open(postgres_url)
    builds = PostgresBuilds(postgres_url)
    made = await builds.start(SOCIAL)
    await load(
        [projection for projection in SOCIAL if not projection.fold_texts], made, builds, log
    )
    await log.close()
    async with builds.switching(SOCIAL, made):
        pass
    world = FeedWorld(Size())
    async with filled(AfterMuch(world), postgres_url, redis_url):
        pass
    return world.tokens
