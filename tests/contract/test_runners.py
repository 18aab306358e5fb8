"""Whichever runner hands the frames over, the same documents are left."""

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from msgspec import structs

from infra.composition.settings import Settings
from infra.servers.kafka import start_kafka
from tests.contract.runners import RUNNERS, Run
from tests.integration.tables import (
    Tables,
    chain,
    checkpoints,
    contents,
    forget_tables,
    projector,
    random_log,
)

COUNT = 2000
BEGUN_HERE = """SELECT 1 FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'plaza-projections'"""


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.full)])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """A runner; one that needs a broker has an empty one of its own."""
    runner = RUNNERS[request.param]
    if request.param == "embedded":
        yield runner
        return
    broker, bootstrap = start_kafka(tmp_path / "kafka", os.environ)

    async def with_broker(settings: Settings, position: int) -> None:
        await runner(structs.replace(settings, kafka_bootstrap=bootstrap), position)

    yield with_broker
    broker.stop()


async def reference(url: str, seed: int) -> Tables:
    """The documents of a random log, applied batch by batch and in order."""
    events = await random_log(url, seed, COUNT)
    async with projector(url) as target:
        for frames in chain(events, 100):
            await target.apply(frames)
    tables = contents(url)
    forget_tables(url)
    return tables


async def test_a_runner_leaves_the_documents_of_the_log(postgres_url: str, run: Run) -> None:
    expected = await reference(postgres_url, 51)
    await run(Settings(postgres_url=postgres_url), COUNT)
    assert contents(postgres_url) == expected
    assert checkpoints(postgres_url) == {COUNT}


async def test_a_runner_goes_on_where_it_was_stopped(postgres_url: str, run: Run) -> None:
    expected = await reference(postgres_url, 52)
    settings = Settings(postgres_url=postgres_url)
    dice = random.Random(52)
    for _ in range(6):
        applying = asyncio.create_task(run(settings, COUNT))
        await asyncio.wait([applying], timeout=dice.uniform(0.05, 0.4))
        applying.cancel()
        await asyncio.gather(applying, return_exceptions=True)
    await run(settings, COUNT)
    assert contents(postgres_url) == expected


async def test_a_runner_follows_a_log_that_grows(postgres_url: str, run: Run) -> None:
    expected = await reference(postgres_url, 53)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE kept AS TABLE log.events")
        connection.execute("TRUNCATE log.events")
    applying = asyncio.create_task(run(Settings(postgres_url=postgres_url), COUNT))
    for start in range(0, COUNT, 250):
        await asyncio.sleep(0.05)
        with psycopg.connect(postgres_url) as connection:
            connection.execute(
                "INSERT INTO log.events SELECT * FROM kept"
                " WHERE notification_id > %s AND notification_id <= %s",
                [start, start + 250],
            )
            connection.execute("NOTIFY plaza_log")
    await applying
    assert contents(postgres_url) == expected


async def test_a_runner_outlives_its_store_connections(postgres_url: str, run: Run) -> None:
    expected = await reference(postgres_url, 54)
    applying = asyncio.create_task(run(Settings(postgres_url=postgres_url), COUNT))
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        # Before that it is being started, and may also end.
        while connection.execute(BEGUN_HERE).fetchone() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for _ in range(10):
            await asyncio.sleep(0.03)
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    await applying
    assert contents(postgres_url) == expected
