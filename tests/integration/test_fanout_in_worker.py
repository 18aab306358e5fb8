"""The fan-out of a real worker: behind real tables, on a real log."""

import random
from collections.abc import AsyncIterator

import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry

from infra.adapters.migrations import migrate
from infra.adapters.reads.postgres_timeline_sources import PostgresTimelineSources
from infra.adapters.timelines.redis_timeline_reader import RedisTimelineReader
from infra.composition.services.projection_worker import opened
from infra.composition.settings import Settings
from infra.ports.frames import SOCIAL_PARTITIONS, partition_of
from infra.ports.log import EventLog
from infra.runtime.frames.embedded import EmbeddedRunner
from tests.pushed import PushedSquare, shown

MEMBERS = range(1, 25)


@pytest.fixture
async def reader(redis_url: str) -> AsyncIterator[RedisTimelineReader]:
    reader = RedisTimelineReader(redis_url, wait_seconds=5.0)
    await reader.open()
    assert await reader.wait_until_reachable(5)
    yield reader
    await reader.close()


async def append(log: EventLog, square: PushedSquare, after: int) -> None:
    """Write to the log what happened after a position, under the same positions."""
    new = square.log[after:]
    written = await log.append([structs.replace(e, stream=f"s:{e.position}") for e in new])
    assert list(written) == [e.position for e in new]


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_a_worker_pushes_is_the_law(
    postgres_url: str, redis_url: str, reader: RedisTimelineReader, seed: int
) -> None:
    chance = random.Random(seed)
    square = PushedSquare()
    settings = Settings(postgres_url=postgres_url, redis_url=redis_url, celebrity_threshold=4)
    await migrate(postgres_url)
    checked = 0
    async with opened(settings, processes=[], registry=CollectorRegistry()) as (log, appliers):
        runner = EmbeddedRunner(log, appliers, SOCIAL_PARTITIONS)
        for _ in range(25):
            before = square.position
            for _ in range(chance.randrange(1, 80)):
                square.happen(chance, MEMBERS)
            await append(log, square, before)
            await runner.run_to(square.position)
            for member in chance.sample(MEMBERS, 6):
                found = await shown(reader, square, member)
                if found is not None:
                    assert found == square.timeline(member), (seed, member)
                    checked += 1
    assert checked > 30


async def test_the_tables_answer_as_of_any_position(postgres_url: str) -> None:
    chance = random.Random(7)
    square = PushedSquare()
    for _ in range(600):
        square.happen(chance, MEMBERS)
    await migrate(postgres_url)
    settings = Settings(postgres_url=postgres_url)
    sources = PostgresTimelineSources(postgres_url)
    async with opened(settings, processes=[], registry=CollectorRegistry()) as (log, appliers):
        await append(log, square, 0)
        await EmbeddedRunner(log, appliers, SOCIAL_PARTITIONS).run_to(square.position)
    assert await sources.checkpoints() == await square.checkpoints()
    for _ in range(50):
        at, author = chance.randrange(1, square.position + 1), chance.choice(MEMBERS)
        partition = partition_of(square.log[at - 1].event)
        found = await sources.followers(partition, at, [author, 99], 100)
        assert set(found.get(author, ())) == square.followers_of(author, at)
        assert 99 not in found
        assert len((await sources.followers(partition, at, [author], 2)).get(author, ())) == min(
            2, len(square.followers_of(author, at))
        )
        count = await sources.follower_count(partition, at, author)
        assert count == len(square.followers_of(author, at))
        entries = await sources.entries(partition, at, author, 10)
        assert list(entries) == square.entries_of(author, at)[-10:]
    positions = [entry[0] for author in MEMBERS for entry in square.entries_of(author, OVER)]
    assert set(await sources.gone(positions)) == set(await square.gone(positions))
    await sources.close()


OVER = 10**9
