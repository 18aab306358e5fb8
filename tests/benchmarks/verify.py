"""How many documents a second are verified against the log, against reading them alone."""

import tempfile
import time
from pathlib import Path

import uvloop

from infra.adapters.event_log import PostgresEventLog
from infra.adapters.postgres_builds import PostgresBuilds
from infra.adapters.served_tables import pinned
from infra.composition.settings import Settings
from infra.composition.verifying import verify
from infra.runtime.rebuild import Rebuilder
from infra.servers.postgres import start_postgres
from tests.benchmarks.harness import Result, interleaved
from tests.benchmarks.rebuild import PROJECTIONS, fill

NAME = "verify"
TARGET = 0.3
EVENTS = 300_000


def run(rounds: int) -> Result:
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        Path(folder).chmod(0o755)
        server, url = start_postgres(Path(folder))
        try:
            uvloop.run(prepare(url))
            return interleaved(
                NAME,
                unit="documents/s",
                target=TARGET,
                rounds=rounds,
                measure=lambda: uvloop.run(verified(url)),
                probe=lambda: uvloop.run(read(url)),
            )
        finally:
            server.stop()


async def prepare(url: str) -> None:
    await fill(url, EVENTS)
    log = await PostgresEventLog.open(url)
    await Rebuilder(PostgresBuilds(url), log).rebuild(PROJECTIONS)
    await log.close()


async def verified(url: str) -> float:
    started, documents = time.perf_counter(), 0
    for projection in PROJECTIONS:
        found = await verify(Settings(postgres_url=url), projection)
        assert not found.different
        documents += found.documents
    return documents / (time.perf_counter() - started)


async def read(url: str) -> float:
    """Documents per second of reading what is served, and nothing more."""
    started, documents = time.perf_counter(), 0
    for projection in PROJECTIONS:
        async with pinned(url, projection) as served:
            assert served is not None
            for table in projection.tables:
                async for rows in served.rows(table):
                    documents += len(rows)
    return documents / (time.perf_counter() - started)
