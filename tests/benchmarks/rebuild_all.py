"""How many events a second two workers rebuild every projection from, against read and decode.

They also have to be twenty times as fast as the library's own `ProjectionRunner` in the same run,
so the probe is whichever asks for more. PLAZA_BENCH_EVENTS sets the size of the log.
"""

import contextlib
import multiprocessing
import os
import sys
import time

import uvloop

from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.adapters.tables.postgres_builds import PostgresBuilds
from infra.runtime.rebuilding.rebuild import load
from projections import COMMERCE, SOCIAL
from tests.benchmarks.harness import Result, interleaved
from tests.benchmarks.library_projection import fill_library, library_rate
from tests.benchmarks.own_postgres import own_postgres
from tests.benchmarks.rebuild import fill, read_and_decode

NAME = "rebuild_all"
TARGET = 0.1
TIMES_THE_LIBRARY = 20
EVENTS = int(os.environ.get("PLAZA_BENCH_EVENTS", "2000000"))
SHARES = (
    ("posts", "members", "sessions", "tags"),
    ("graph", "engagement", *(projection.name for projection in COMMERCE)),
)
"""Each worker reads the log once, and keeps about as many rows as the other."""


def run(rounds: int) -> Result:
    with own_postgres() as url:
        uvloop.run(fill(url, EVENTS))
        fill_library(url)
        return interleaved(
            NAME,
            unit="events/s",
            target=TARGET,
            rounds=rounds,
            measure=lambda: rebuilt(url),
            probe=lambda: asked_for(url),
        )


def asked_for(url: str) -> float:
    reading = uvloop.run(read_and_decode(url, EVENTS))
    library = library_rate(url)
    sys.stderr.write(f"read and decode {reading:,.0f}/s, ProjectionRunner {library:,.0f}/s\n")
    return max(reading, library * TIMES_THE_LIBRARY / TARGET)


def rebuilt(url: str) -> float:
    """Events per second from no tables to complete ones of every projection."""
    known = {projection.name for projection in (*SOCIAL, *COMMERCE)}
    left = known.difference(*SHARES)
    shares = [(*SHARES[0], *sorted(left)), SHARES[1]]
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=work, args=(url, [name for name in share if name in known]))
        for share in shares
    ]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - started
    if any(worker.exitcode for worker in workers):
        raise AssertionError("a worker failed")
    return EVENTS / seconds


def work(url: str, names: list[str]) -> None:
    uvloop.run(build(url, names))


async def build(url: str, names: list[str]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        log = await PostgresEventLog.open(url)
        stack.push_async_callback(log.close)
        keyring = await PostgresKeyring.connect(url)
        stack.push_async_callback(keyring.close)
        chosen = [
            projection.with_texts(keyring)
            for projection in (*SOCIAL, *COMMERCE)
            if projection.name in names
        ]
        builds = PostgresBuilds(url)
        made = await builds.start(chosen)
        await load(chosen, made, builds, log)
        await builds.drop(made)
