"""Pushed timelines while Redis is killed, set back, emptied or silent."""

import asyncio
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from infra.adapters.timelines.redis_timeline_reader import RedisTimelineReader
from infra.adapters.timelines.redis_timelines import RedisTimelines
from infra.ports.timelines import TimelinesUnavailable
from infra.runtime.timelines.fanout import Limits, TimelineFanout
from infra.servers.process import ServerProcess, free_port, start
from infra.servers.valkey import valkey_program
from projections.home_timeline import effect_of
from tests.pushed import PushedSquare, shown

MEMBERS = range(1, 17)
PATIENCE_SECONDS = 20.0


@dataclass
class Breakable:
    """A Valkey of one's own, on a port that it keeps."""

    folder: Path
    port: int
    process: ServerProcess

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def save(self) -> None:
        with redis.Redis(port=self.port) as client:
            client.save()
        shutil.copy(self.folder / "dump.rdb", self.folder / "earlier.rdb")

    def kill_and_restart(self, *, from_snapshot: bool) -> None:
        self.process.kill()
        file = self.folder / "dump.rdb"
        file.unlink(missing_ok=True)
        if from_snapshot:
            shutil.copy(self.folder / "earlier.rdb", file)
        self.process = start(valkey_program(self.folder, self.port))

    def empty(self) -> None:
        with redis.Redis(port=self.port) as client:
            client.flushall()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.process.pid, number)


@pytest.fixture
def breakable(tmp_path: Path) -> Iterator[Breakable]:
    port = free_port()
    server = Breakable(tmp_path, port, start(valkey_program(tmp_path, port)))
    yield server
    server.process.kill()


@dataclass
class Running:
    store: RedisTimelines
    reader: RedisTimelineReader
    square: PushedSquare
    fanout: TimelineFanout

    async def reachable(self) -> None:
        assert await self.store.wait_until_reachable(10)
        assert await self.reader.wait_until_reachable(10)

    async def settle(self) -> None:
        """Wait until all that happened is applied; then every member sees the law."""
        await self.reachable()
        async with asyncio.timeout(10):
            # Redis does not tell, so it is asked.
            while set((await self.reader.applied()).values()) != {self.square.position}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        for member in MEMBERS:
            found = await shown(self.reader, self.square, member)
            if found is None:
                found = await shown(self.reader, self.square, member)
            assert found == self.square.timeline(member), member


@pytest.fixture
async def running(breakable: Breakable) -> AsyncIterator[Running]:
    store = RedisTimelines(breakable.url, wait_seconds=1.0)
    reader = RedisTimelineReader(breakable.url)
    await store.open()
    await reader.open()
    square = PushedSquare()
    log: Any = square
    limits = Limits(celebrities_from=5, chunk_max=2, share_after=1)
    fanout = TimelineFanout(store, square, log, effect_of, limits=limits)
    running = Running(store, reader, square, fanout)
    await running.reachable()
    background = asyncio.create_task(fanout.run())
    yield running
    background.cancel()
    await asyncio.gather(background, return_exceptions=True)
    await store.close()
    await reader.close()


async def live(running: Running, chance: random.Random, rounds: int) -> None:
    """Things happen and are read; whatever can be read is the law."""
    square = running.square
    for _ in range(rounds):
        before = square.position
        for _ in range(chance.randrange(1, 30)):
            square.happen(chance, MEMBERS)
        await running.fanout.apply(square.frames(before))
        for member in chance.sample(MEMBERS, 3):
            try:
                applied = await running.reader.applied()
                found = await shown(running.reader, square, member)
            except TimelinesUnavailable:
                continue
            if found is not None and set(applied.values()) == {square.position}:
                assert found == square.timeline(member)


@pytest.mark.parametrize("from_snapshot", [True, False])
async def test_a_redis_that_is_killed_comes_back_right(
    running: Running, breakable: Breakable, *, from_snapshot: bool
) -> None:
    chance = random.Random(int(from_snapshot))
    for _ in range(3):
        await live(running, chance, 6)
        await asyncio.to_thread(breakable.save)
        await live(running, chance, 6)
        applying = asyncio.create_task(live(running, chance, 30))
        await asyncio.sleep(chance.uniform(0.0, 0.1))
        await asyncio.to_thread(breakable.kill_and_restart, from_snapshot=from_snapshot)
        await applying
        await running.settle()


async def test_a_redis_set_back_while_nothing_happens_catches_up(
    running: Running, breakable: Breakable
) -> None:
    chance = random.Random(9)
    await live(running, chance, 5)
    await asyncio.to_thread(breakable.save)
    await live(running, chance, 5)
    await asyncio.to_thread(breakable.kill_and_restart, from_snapshot=True)
    await running.settle()


async def test_an_emptied_redis_starts_anew(running: Running, breakable: Breakable) -> None:
    chance = random.Random(10)
    await live(running, chance, 10)
    await running.settle()
    await asyncio.to_thread(breakable.empty)
    assert await running.reader.applied() == {}
    assert await shown(running.reader, running.square, 1, keep=False)
    await live(running, chance, 5)
    await running.settle()


async def test_without_its_state_nothing_else_is_believed(
    running: Running, breakable: Breakable
) -> None:
    chance = random.Random(11)
    await live(running, chance, 10)
    await running.settle()
    with redis.Redis(port=breakable.port) as client:
        client.delete("timelines")
    await live(running, chance, 5)
    await running.settle()


async def test_a_log_that_lost_its_end_takes_the_timelines_along(
    running: Running,
) -> None:
    """As after restoring a backup: the store shows what never happened."""
    chance = random.Random(12)
    await live(running, chance, 10)
    await running.settle()
    square = running.square
    earlier = PushedSquare()
    chance = random.Random(12)
    while earlier.position < square.position // 2:
        earlier.happen(chance, MEMBERS)
    log: Any = earlier
    fanout = TimelineFanout(running.store, earlier, log, effect_of)
    await fanout.catch_up()
    assert set((await fanout.checkpoints()).values()) == {earlier.position}
    for member in MEMBERS:
        found = await shown(running.reader, earlier, member)
        assert found is None or found == earlier.timeline(member)


async def test_a_silent_redis_is_given_up_at_once(running: Running, breakable: Breakable) -> None:
    chance = random.Random(13)
    await live(running, chance, 3)
    await running.settle()
    breakable.signal(signal.SIGSTOP)
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(TimelinesUnavailable):
            await running.reader.read(1, lambda _: ())
        # And from then on without waiting at all, which a thousand waits would show.
        for _ in range(1000):
            with pytest.raises(TimelinesUnavailable):
                await running.reader.read(1, lambda _: ())
    before = running.square.position
    for _ in range(20):
        running.square.happen(chance, MEMBERS)
    await running.fanout.apply(running.square.frames(before))
    breakable.signal(signal.SIGCONT)
    await running.settle()
