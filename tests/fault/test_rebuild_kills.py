"""A rebuild that is killed, wherever it was, goes on when asked again, to the same tables."""

import asyncio
import os
import random
import signal
import sys

import psycopg
import pytest

from tests.integration.tables import SOCIAL, Tables, contents
from tests.integration.test_rebuild import statuses
from tests.integration.test_verify import served
from tests.searching import happen
from tests.square import Square

KILLS = 3
MANY_KILLS = 30
PROGRAM = """
import asyncio, sys
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.adapters.tables.postgres_builds import PostgresBuilds
from infra.runtime.rebuilding import rebuild
from projections import SOCIAL

rebuild.LOAD_LINES, rebuild.RETIRE_SECONDS = 100, 0.0

async def main(url, name):
    log = await PostgresEventLog.open(url)
    keyring = await PostgresKeyring.connect(url)
    projections = [one.with_texts(keyring) for one in SOCIAL if one.name == name]
    await rebuild.Rebuilder(PostgresBuilds(url), log).rebuild(projections, compare=True)
    await keyring.close()
    await log.close()

print("begun", flush=True)
asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


async def rebuilt(url: str, name: str, killed_after: float | None) -> bool:
    """Run a rebuild in a process of its own; answers whether it came to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, url, name),
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


async def killed_and_gone_on_with(url: str, name: str, seed: int, kills: int) -> None:
    dice = random.Random(seed)
    print("seed", seed)
    expected = tables_of(url, name, 1)
    assert all(expected.values())
    killed = 0
    while killed < kills:
        if not await rebuilt(url, name, dice.uniform(0.0, 1.5)):
            killed += 1
            continue
        assert tables_of(url, name, live_build(url, name)) == expected
    assert await rebuilt(url, name, None)
    assert tables_of(url, name, live_build(url, name)) == expected
    # Nothing is left behind but what can be switched back to.
    assert {status for _, status in statuses(url, name)} <= {"live", "retired"}
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE %s", [f"{name}\\_b%"]
        ).fetchone()
    assert row == (len(statuses(url, name)),)


def live_build(url: str, name: str) -> int:
    (build,) = [number for number, status in statuses(url, name) if status == "live"]
    return build


def tables_of(url: str, name: str, build: int) -> Tables:
    return contents(url, [one for one in SOCIAL if one.name == name], build)


async def tagged(url: str, seed: int, times: int) -> None:
    """Posts with tags in their sealed texts, by members of whom one is erased."""
    square = await Square.open(url)
    await happen(square, random.Random(seed), times)
    await square.apply()
    await square.close()


async def test_a_rebuild_survives_a_few_kills(postgres_url: str) -> None:
    await served(postgres_url, 181)
    await killed_and_gone_on_with(postgres_url, "posts", 1, KILLS)


async def test_a_rebuild_that_opens_texts_survives_a_kill(postgres_url: str) -> None:
    await tagged(postgres_url, 183, 300)
    await killed_and_gone_on_with(postgres_url, "tags", 3, 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_rebuild_survives_thirty_kills(postgres_url: str) -> None:
    await served(postgres_url, 181)
    await killed_and_gone_on_with(postgres_url, "posts", random.randrange(10**6), MANY_KILLS)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_rebuild_that_opens_texts_survives_thirty_kills(postgres_url: str) -> None:
    await tagged(postgres_url, 184, 1_500)
    await killed_and_gone_on_with(postgres_url, "tags", random.randrange(10**6), MANY_KILLS)
