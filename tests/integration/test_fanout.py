"""Pushed timelines against the law, whatever happens to frames, workers and Redis."""

import random
from collections.abc import AsyncIterator

import pytest

from infra.adapters.redis_timelines import RedisTimelineReader, RedisTimelines
from infra.runtime.fanout import Limits, TimelineFanout
from projections.home_timeline import effect_of
from tests.pushed import PushedSquare, shown

MEMBERS = range(1, 25)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisTimelines]:
    store = RedisTimelines(redis_url)
    await store.open()
    assert await store.wait_until_reachable(5)
    yield store
    await store.close()


@pytest.fixture
async def reader(redis_url: str) -> AsyncIterator[RedisTimelineReader]:
    reader = RedisTimelineReader(redis_url, wait_seconds=5.0)
    await reader.open()
    assert await reader.wait_until_reachable(5)
    yield reader
    await reader.close()


def fanout_of(
    store: RedisTimelines, square: PushedSquare, limits: Limits | None = None
) -> TimelineFanout:
    return TimelineFanout(store, square, square, effect_of, limits=limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(6))
async def test_pushed_timelines_are_the_law_at_every_step(
    store: RedisTimelines, reader: RedisTimelineReader, seed: int
) -> None:
    chance = random.Random(seed)
    square = PushedSquare()
    fanout = fanout_of(store, square, Limits(celebrities_from=3, chunk_max=2, share_after=1))
    checked = 0
    for _ in range(60):
        before = square.position
        for _ in range(chance.randrange(1, 60)):
            square.happen(chance, MEMBERS)
        await fanout.apply(square.frames(before))
        for member in chance.sample(MEMBERS, 6):
            found = await shown(reader, square, member)
            if found is not None:
                assert found == square.timeline(member), (seed, member)
                checked += 1
    assert checked > 100
    assert fanout.counts.promoted
    assert fanout.counts.demoted
    assert fanout.counts.shared
