"""A rebuild that is killed, wherever it was, goes on when asked again, to the same tables."""

import asyncio
import os
import random
import signal
import sys

import psycopg
import pytest

from tests.integration.tables import SOCIAL, contents
from tests.integration.test_rebuild import statuses
from tests.integration.test_verify import served

KILLS = 3
MANY_KILLS = 30
PROGRAM = """
import asyncio, sys
from infra.adapters.event_log import PostgresEventLog
from infra.adapters.postgres_builds import PostgresBuilds
from infra.runtime import rebuild
from projections import posts

rebuild.LOAD_LINES, rebuild.RETIRE_SECONDS = 100, 0.0

async def main(url):
    log = await PostgresEventLog.open(url)
    await rebuild.Rebuilder(PostgresBuilds(url), log).rebuild([posts.PROJECTION], compare=True)
    await log.close()

print("begun", flush=True)
asyncio.run(main(sys.argv[1]))
"""


async def rebuilt(url: str, killed_after: float | None) -> bool:
    """Run a rebuild in a process of its own; answers whether it came to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"begun\n"
    try:
        await asyncio.wait_for(process.wait(), killed_after)
    except TimeoutError:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    return process.returncode == 0


async def killed_and_gone_on_with(url: str, seed: int, kills: int) -> None:
    dice = random.Random(seed)
    print("seed", seed)
    await served(url, 181)
    expected = contents(url)
    build, killed = 1, 0
    while killed < kills:
        if not await rebuilt(url, dice.uniform(0.0, 1.5)):
            killed += 1
            continue
        (build,) = [number for number, status in statuses(url, "posts") if status == "live"]
        assert tables_of(url, build) == {name: expected[name] for name in tables_of(url, build)}
    assert await rebuilt(url, None)
    (live,) = [number for number, status in statuses(url, "posts") if status == "live"]
    assert tables_of(url, live) == {name: expected[name] for name in tables_of(url, live)}
    # Nothing is left behind but what can be switched back to.
    assert {status for _, status in statuses(url, "posts")} <= {"live", "retired"}
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'posts\\_b%'"
        ).fetchone()
    assert row == (len(statuses(url, "posts")),)


def tables_of(url: str, build: int) -> dict[str, list[tuple[object, ...]]]:
    (posts,) = [projection for projection in SOCIAL if projection.name == "posts"]
    return contents(url, [posts], build)


async def test_a_rebuild_survives_a_few_kills(postgres_url: str) -> None:
    await killed_and_gone_on_with(postgres_url, 1, KILLS)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_rebuild_survives_thirty_kills(postgres_url: str) -> None:
    await killed_and_gone_on_with(postgres_url, random.randrange(10**6), MANY_KILLS)
