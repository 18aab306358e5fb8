"""How many documents a second are verified against the log, against reading them alone."""

import time

import psycopg
import uvloop
from psycopg import sql

from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.tables.postgres_builds import PostgresBuilds
from infra.adapters.tables.projection_builds import live_builds, schema_name
from infra.composition.operations.verifying import verify_together
from infra.composition.settings import Settings
from infra.ports.keepers import Verified
from infra.runtime.rebuilding.rebuild import Rebuilder
from tests.benchmarks.harness import Result, interleaved
from tests.benchmarks.own_postgres import own_postgres
from tests.benchmarks.rebuild import PROJECTIONS, fill

NAME = "verify"
TARGET = 0.3
EVENTS = 300_000
ROWS_AT_ONCE = 10_000


def run(rounds: int) -> Result:
    with own_postgres() as url:
        uvloop.run(prepare(url))
        return interleaved(
            NAME,
            unit="documents/s",
            target=TARGET,
            rounds=rounds,
            measure=lambda: uvloop.run(verified(url)),
            probe=lambda: uvloop.run(read(url)),
        )


async def prepare(url: str) -> None:
    await fill(url, EVENTS)
    log = await PostgresEventLog.open(url)
    await Rebuilder(PostgresBuilds(url), log).rebuild(PROJECTIONS)
    await log.close()


async def verified(url: str) -> float:
    started = time.perf_counter()
    found = await verify_together(Settings(postgres_url=url), PROJECTIONS)
    seconds = time.perf_counter() - started
    documents = 0
    for one in found.values():
        assert isinstance(one, Verified)
        assert not one.different
        documents += one.documents
    return documents / seconds


async def read(url: str) -> float:
    """Documents per second of reading what is served, and nothing more."""
    started, documents = time.perf_counter(), 0
    async with await psycopg.AsyncConnection.connect(url) as connection:
        live = await live_builds(connection)
        for projection in PROJECTIONS:
            schema = schema_name(projection.name, live[projection.name][0])
            for table in projection.tables:
                query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table.name))
                async with connection.cursor("served", binary=True) as cursor:
                    await cursor.execute(query)
                    while rows := await cursor.fetchmany(ROWS_AT_ONCE):
                        documents += len(rows)
    return documents / (time.perf_counter() - started)
