"""What the relay sends, whatever happens between sending and remembering."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest

from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.log.relay_place import PostgresPlace, hold_place
from infra.adapters.migrations import migrate
from infra.formats.codec import FrameLines
from infra.ports.frames import BrokerUnavailable
from infra.runtime.frames.relay import Relay
from tests.builders import append_follows
from tests.waiting import until

PATIENCE_SECONDS = 20


class MemoryBroker:
    """Keeps what was flushed; fails on request, as a broker that goes away does."""

    def __init__(self) -> None:
        self.kept: list[FrameLines] = []
        self.failures = 0

    def open(self) -> "MemorySender":
        return MemorySender(self)

    def positions(self) -> list[int]:
        return [line.position for frame in self.kept for line in frame.lines]


class MemorySender:
    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._queued: list[FrameLines] = []

    def send(self, frame: FrameLines) -> None:
        self._queued.append(frame)

    async def flush(self) -> None:
        if self._broker.failures:
            self._broker.failures -= 1
            raise BrokerUnavailable("away")
        self._broker.kept += self._queued
        self._queued.clear()


@pytest.fixture
async def database(postgres_url: str) -> str:
    await migrate(postgres_url)
    return postgres_url


async def relay_until(database: str, broker: MemoryBroker, done: Callable[[], bool]) -> None:
    """Run a relay until `done`, then stop it as a signal would."""
    log = await PostgresEventLog.open(database)
    relay = Relay(log, partial(hold_place, database), broker.open)
    task = asyncio.create_task(relay.run())
    await until(done)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await log.close()


def chains(frames: list[FrameLines]) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = {}
    for frame in frames:
        found.setdefault(frame.partition, []).append((frame.previous, frame.last))
    return found


async def test_every_event_is_sent_once_and_every_frame_names_the_one_before(
    database: str,
) -> None:
    positions = await append_follows(database, 3000)
    broker = MemoryBroker()
    await relay_until(database, broker, lambda: len(broker.positions()) >= 3000)
    assert sorted(broker.positions()) == positions
    for links in chains(broker.kept).values():
        assert links[0][0] == 0
        assert [last for _, last in links[:-1]] == [previous for previous, _ in links[1:]]


async def test_watermarks_bring_idle_partitions_to_the_end_of_the_log(database: str) -> None:
    positions = await append_follows(database, 1)
    broker = MemoryBroker()
    await relay_until(database, broker, lambda: len(broker.kept) >= 16)
    assert {links[-1][1] for links in chains(broker.kept).values()} == {positions[-1]}
    assert len(broker.positions()) == 1


async def test_a_broker_that_comes_back_gets_everything(database: str) -> None:
    positions = await append_follows(database, 100)
    broker = MemoryBroker()
    broker.failures = 3
    await relay_until(database, broker, lambda: len(broker.positions()) >= 100)
    assert sorted(broker.positions()) == positions


async def test_what_was_sent_but_not_remembered_is_sent_again_under_the_same_links(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = await append_follows(database, 50)
    broker = MemoryBroker()
    save = PostgresPlace.save
    crashes = iter([True])

    async def crash_once(self: PostgresPlace, *place: object) -> None:
        if next(crashes, False):
            raise ConnectionResetError
        await save(self, *place)  # type: ignore[arg-type]

    monkeypatch.setattr(PostgresPlace, "save", crash_once)
    await relay_until(database, broker, lambda: len(broker.positions()) >= 100)
    half = len(broker.kept) // 2
    assert broker.kept[:half] == broker.kept[half : 2 * half]
    assert set(broker.positions()) == set(positions)


async def test_a_second_relay_stands_by_until_the_first_is_gone(database: str) -> None:
    first = hold_place(database)
    await first.__aenter__()
    second = asyncio.create_task(entered(hold_place(database).__aenter__))
    await asyncio.sleep(1.2)
    assert not second.done()
    await first.__aexit__(None, None, None)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await second


async def entered(enter: Callable[[], Awaitable[object]]) -> None:
    await enter()
