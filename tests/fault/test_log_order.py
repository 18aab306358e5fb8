"""Positions become visible in the order in which they are given out, whatever writers do.

A reader that tails the log by position would otherwise step over an event that is committed after
a later one, and never see it.
"""

import asyncio
import itertools
import os
import random
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.migrations import migrate

EVENTS = 60_000
ALL_FAULTS_EVENTS = 1_000_000
GROUPS, GROUP_WRITERS = 2, 24
LIBRARIES, LIBRARY_WRITERS = 2, 8
KILLS = 3
READ_LINES = 2_000
IMPATIENT_SECONDS = 0.002

OUT_OF_TURN = "CREATE OR REPLACE FUNCTION log.take_turn() RETURNS void LANGUAGE sql AS 'SELECT'"


class Writers:
    """Processes of writers, each of which counts from a name of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self._names = itertools.count()
        self._running: list[tuple[asyncio.subprocess.Process, str, int, int]] = []

    async def start(self, kind: str, writers: int, events: int) -> None:
        name = f"{kind}{next(self._names)}"
        words = (kind, self._url, self._folder / name, name, str(writers), str(events))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.fault.log_writers", *map(str, words)
        )
        self._running.append((process, kind, writers, events))

    async def kill_one(self, chance: random.Random) -> None:
        """SIGKILL to one of the processes, and another one in its place."""
        process, kind, writers, events = self._running.pop(chance.randrange(len(self._running)))
        process.kill()
        await process.wait()
        await self.start(kind, writers, events)

    async def finished(self) -> None:
        codes = [await process.wait() for process, *_ in self._running]
        assert codes == [0] * len(codes)

    async def end(self) -> None:
        for process, *_ in self._running:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def acknowledged(self) -> set[int]:
        found: set[int] = set()
        for file in self._folder.iterdir():
            notes = file.read_bytes()
            found.update(
                number for (number,) in struct.iter_unpack("<q", notes[: len(notes) // 8 * 8])
            )
        return found


@asynccontextmanager
async def writers_of(url: str, folder: Path) -> AsyncIterator[Writers]:
    writers = Writers(url, folder)
    try:
        yield writers
    finally:
        await writers.end()


async def tail(log: PostgresEventLog, done: asyncio.Event, *, patient: bool) -> list[int]:
    """Every position that a reader sees which asks for what comes after the last it has seen."""
    seen: list[int] = []
    after = 0
    while True:
        last_time = done.is_set()
        lines = await log.read_lines(after, READ_LINES)
        seen += [line.position for line in lines]
        after = seen[-1] if seen else 0
        if last_time and not lines:
            return seen
        if not lines:
            await (log.wait(after, 0.2) if patient else asyncio.sleep(IMPATIENT_SECONDS))


async def roll_back_now_and_then(url: str, done: asyncio.Event) -> None:
    """Take a turn, use up some positions, and take it all back."""
    connection = await psycopg.AsyncConnection.connect(url)
    async with connection:
        while not done.is_set():
            await connection.execute("SELECT log.take_turn()")
            await connection.execute(
                "INSERT INTO log.events SELECT 'rolled-back', n FROM generate_series(1, 7) AS n"
            )
            await connection.rollback()
            await asyncio.sleep(0.05)


async def stored_positions(url: str) -> list[int]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute("SELECT notification_id FROM log.events ORDER BY 1")
        return [position for (position,) in await cursor.fetchall()]


@pytest.mark.timeout(900)
async def test_a_tailing_reader_misses_no_event(
    postgres_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """64 writers in four processes, two of them the library's; some are killed, some roll back."""
    all_faults = request.config.getoption("--all-faults", default=False)
    events = int(os.environ.get("PLAZA_FAULT_EVENTS", ALL_FAULTS_EVENTS if all_faults else EVENTS))
    chance = random.Random(64)
    await migrate(postgres_url)
    log = await PostgresEventLog.open(postgres_url)
    done = asyncio.Event()
    async with writers_of(postgres_url, tmp_path) as writers:
        readers = [
            asyncio.create_task(tail(log, done, patient=patient)) for patient in (True, False)
        ]
        rolling_back = asyncio.create_task(roll_back_now_and_then(postgres_url, done))
        for _ in range(GROUPS):
            await writers.start("group", GROUP_WRITERS, events * 4 // 10)
        for _ in range(LIBRARIES):
            await writers.start("library", LIBRARY_WRITERS, events // 10)
        for kill in range(1, KILLS + 1):
            await log.wait(events * kill // (2 * KILLS), 60)
            await writers.kill_one(chance)
        await writers.finished()
        done.set()
        await rolling_back
        stored = await stored_positions(postgres_url)
        for reader in readers:
            assert await reader == stored
        assert writers.acknowledged() <= set(stored)
        assert len(stored) >= events
        assert stored[-1] > len(stored), "nothing was rolled back"
    await log.close()


async def test_without_the_turn_that_reader_would_miss_events(
    postgres_url: str, tmp_path: Path
) -> None:
    """Shows that the test above can fail: with the lock taken out, it does."""
    await migrate(postgres_url)
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        await connection.execute(OUT_OF_TURN)
    log = await PostgresEventLog.open(postgres_url)
    done = asyncio.Event()
    async with writers_of(postgres_url, tmp_path) as writers:
        reader = asyncio.create_task(tail(log, done, patient=False))
        for _ in range(3):
            await writers.start("group", GROUP_WRITERS, EVENTS // 6)
        await writers.finished()
        done.set()
        assert len(await reader) < len(await stored_positions(postgres_url))
    await log.close()
