"""Pushed timelines against the law, whatever happens to frames, workers and Redis."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
import redis

from infra.adapters.timelines.redis_timeline_reader import RedisTimelineReader
from infra.adapters.timelines.redis_timelines import RedisTimelines
from infra.ports.frames import Frame
from infra.ports.timelines import Keys, Link, Outcome
from infra.runtime.timelines.fanout import Limits, TimelineFanout
from infra.runtime.timelines.sweep import TimelineSweep
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


def fanout_of(store: Any, square: PushedSquare, limits: Limits | None = None) -> TimelineFanout:
    log: Any = square  # As much of one as is asked for.
    return TimelineFanout(store, square, log, effect_of, limits=limits)


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


async def settle(fanout: TimelineFanout, reader: RedisTimelineReader, square: PushedSquare) -> None:
    """Every member reads until the timeline is kept, and sees the law."""
    assert set((await fanout.checkpoints()).values()) == {square.position}
    for member in MEMBERS:
        found = await shown(reader, square, member)
        if found is None:
            found = await shown(reader, square, member)
        assert found == square.timeline(member), member


@pytest.mark.parametrize("seed", [11, 12, 13])
async def test_frames_dropped_repeated_and_swapped_change_nothing(
    store: RedisTimelines, reader: RedisTimelineReader, seed: int
) -> None:
    chance = random.Random(seed)
    square = PushedSquare()
    fanout = fanout_of(store, square, Limits(celebrities_from=4, chunk_max=2, share_after=1))
    past: list[Frame] = []
    for _ in range(40):
        before = square.position
        for _ in range(chance.randrange(1, 40)):
            square.happen(chance, MEMBERS)
        middle = chance.randrange(before, square.position + 1)
        frames = square.frames(before, middle) + square.frames(middle)
        past += frames
        again = chance.choices(past, k=5)
        handed = [frame for frame in frames if chance.random() < 0.8] + again
        chance.shuffle(handed)
        await fanout.apply(handed)
        for member in chance.sample(MEMBERS, 3):
            await shown(reader, square, member)
    await fanout.apply(square.frames(square.position - 1))
    await settle(fanout, reader, square)


class Died(Exception):
    pass


class MortalStore:
    """A store whose worker dies before, or after, a certain step."""

    def __init__(self, store: RedisTimelines, steps: int, *, after: bool) -> None:
        self._store = store
        self._steps = steps
        self._after = after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in {"push", "push_own", "drop", "promote", "demote", "share", "help"}:
            return found

        def step(*words: Any) -> Any:
            self._steps -= 1
            if self._steps >= 0:
                return found(*words)
            if not self._after:
                raise Died
            done = found(*words)
            if asyncio.iscoroutine(done):
                return self._finish_and_die(done)
            raise Died

        return step

    async def _finish_and_die(self, work: Awaitable[Any]) -> None:
        await work
        raise Died


@pytest.mark.parametrize("after", [False, True])
async def test_a_worker_that_dies_at_any_step_loses_nothing(
    store: RedisTimelines, reader: RedisTimelineReader, *, after: bool
) -> None:
    """Each worker does a few steps more than the last; the next goes on with the same frames."""
    chance = random.Random(5)
    square = PushedSquare()
    limits = Limits(celebrities_from=8, chunk_max=2, share_after=1)
    await fanout_of(store, square, limits).catch_up()
    deaths = 0
    for round_ in range(12):
        before = square.position
        for _ in range(25):
            square.happen(chance, MEMBERS)
        frames = square.frames(before)
        for steps in range(1000):
            mortal = MortalStore(store, steps + round_, after=after)
            try:
                await fanout_of(mortal, square, limits).apply(frames)
            except Died:
                deaths += 1
            else:
                break
        for member in MEMBERS:
            found = await shown(reader, square, member)
            assert found is None or found == square.timeline(member), (round_, member)
    assert deaths > 30
    await settle(fanout_of(store, square, limits), reader, square)


@pytest.mark.parametrize("seed", range(20, 24))
async def test_workers_at_odds_over_the_same_partitions_push_everything_once(
    store: RedisTimelines, reader: RedisTimelineReader, redis_url: str, seed: int
) -> None:
    chance = random.Random(seed)
    square = PushedSquare()
    limits = Limits(celebrities_from=8, chunk_max=2, share_after=1)
    other_store = RedisTimelines(redis_url)
    await other_store.open()
    assert await other_store.wait_until_reachable(5)
    workers = [fanout_of(store, square, limits), fanout_of(other_store, square, limits)]
    helping = [asyncio.create_task(worker.run()) for worker in workers]
    for _ in range(30):
        before = square.position
        for _ in range(chance.randrange(1, 60)):
            square.happen(chance, MEMBERS)
        readers = chance.sample(MEMBERS, 3)
        await asyncio.gather(
            *(worker.apply(square.frames(before)) for worker in workers),
            *(shown(reader, square, member) for member in readers),
        )
        for member in readers:
            found = await shown(reader, square, member)
            assert found is None or found == square.timeline(member)
    await settle(workers[0], reader, square)
    for task in helping:
        task.cancel()
    await asyncio.gather(*helping, return_exceptions=True)
    await other_store.close()


async def test_no_timeline_is_written_to_for_a_post_of_a_celebrity(
    store: RedisTimelines, reader: RedisTimelineReader, redis_url: str
) -> None:
    square = PushedSquare()
    fanout = fanout_of(store, square, Limits(celebrities_from=20))
    star, fans = 99, range(1, 21)
    await fanout.catch_up()
    for fan in fans[:19]:
        square.follow(fan, star)
    square.post(star)
    await fanout.apply(square.frames(0))
    for fan in fans:
        await shown(reader, square, fan)
    before = square.position
    square.post(star)
    await fanout.apply(square.frames(before))
    assert fanout.counts.deliveries == 19
    before = square.position
    square.follow(fans[19], star)
    for _ in range(5):
        square.post(star)
    with redis.Redis.from_url(redis_url) as client:
        lengths = {name: client.strlen(name) for name in client.scan_iter("t:*")}
        await fanout.apply(square.frames(before))
        after = {name: client.strlen(name) for name in client.scan_iter("t:*")}
    assert fanout.counts.deliveries == 19
    assert fanout.counts.promoted == 1
    assert after.items() <= lengths.items()
    assert len(lengths) - len(after) == 1, "the new fan's is gone, and no other"
    for fan in [*fans, star]:
        found = await shown(reader, square, fan) or await shown(reader, square, fan)
        assert found == square.timeline(fan)
    # Two fans leave: with 18 of 20 it is still a celebrity; with 17 no more.
    for leaving, demoted in ((fans[0], 0), (fans[1], 0), (fans[2], 1)):
        before = square.position
        square.unfollow(leaving, star)
        square.post(star)
        await fanout.apply(square.frames(before))
        assert fanout.counts.demoted == demoted
        for fan in [*fans, star]:
            found = await shown(reader, square, fan) or await shown(reader, square, fan)
            assert found == square.timeline(fan)


async def test_those_who_read_last_get_a_large_fan_out_first(
    store: RedisTimelines, redis_url: str
) -> None:
    square = PushedSquare()
    fanout = fanout_of(store, square, Limits(chunk_max=5, share_after=100))
    await fanout.catch_up()
    now = [1000.0]
    reader = RedisTimelineReader(redis_url, wait_seconds=5.0, clock=lambda: now[0])
    await reader.open()
    assert await reader.wait_until_reachable(5)
    order = random.Random(2).sample(range(1, 21), 20)
    for fan in order:
        square.follow(fan, 99)
    await fanout.apply(square.frames(0))
    for fan in order:
        now[0] += 100
        await shown(reader, square, fan)
    chunks: list[list[int]] = []
    push = store.push

    def noted(link: Link, position: int, entry: bytes, keys: Keys) -> Awaitable[Outcome]:
        chunks.append(keys.members.tolist())
        return push(link, position, entry, keys)

    store.push = noted  # type: ignore[method-assign]
    before = square.position
    square.post(99)
    await fanout.apply(square.frames(before))
    latest = order[::-1]
    assert [chunk for chunk in chunks if chunk] == [latest[n : n + 5] for n in range(0, 20, 5)]
    await reader.close()


@pytest.mark.parametrize("seed", [31, 32])
async def test_a_sweep_buries_what_is_gone_and_shows_nothing_more(
    store: RedisTimelines, reader: RedisTimelineReader, redis_url: str, seed: int
) -> None:
    chance = random.Random(seed)
    square = PushedSquare()
    fanout = fanout_of(store, square, Limits(celebrities_from=4))
    sweep = TimelineSweep(store, square)
    buried = 0
    for round_ in range(12):
        before = square.position
        for _ in range(100):
            square.happen(chance, MEMBERS)
        await fanout.apply(square.frames(before))
        for member in MEMBERS:
            await shown(reader, square, member)
        if round_ % 3 == 2:
            buried += await sweep.sweep()
            assert await sweep.sweep() == 0
        brought = {at for entries in square.brought.values() for at, _ in entries}
        gone = set(await square.gone(brought))
        for member in MEMBERS:
            found = await shown(reader, square, member)
            if found is not None:
                standing = [entry for entry in square.timeline(member) if entry[0] not in gone]
                assert [entry for entry in found if entry[0] not in gone] == standing
                assert round_ % 3 != 2 or found == standing
    assert buried > 50
    # What an earlier epoch left behind goes as well.
    kept = await store.load()
    assert kept is not None
    await store.adopt(kept.epoch, kept.applied)
    await store.load()
    await sweep.sweep()
    with redis.Redis.from_url(redis_url) as client:
        assert list(client.scan_iter("[tc]:*")) == []
