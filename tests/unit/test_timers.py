"""Timers ring when their time has come, whatever the clock does meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.runtime.reacting.timers import Errands, Timers

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Watch:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.shows = START

    def __call__(self) -> datetime:
        return self.shows


class Alarm:
    """Timers under way, and what they have rung."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.rung: list[str] = []
        self.timers = Timers(self.watch, self.rung.append)

    async def rings(self, *expected: str) -> None:
        async with asyncio.timeout(20):
            while self.rung != list(expected):
                assert len(self.rung) <= len(expected), self.rung
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert self.rung == list(expected)


@pytest.fixture
async def alarm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Alarm]:
    monkeypatch.setattr("infra.runtime.reacting.timers.LOOK_SECONDS", 0.01)
    # A clock that stands is late by as much as a test takes.
    monkeypatch.setattr("infra.runtime.reacting.timers.BACK_SECONDS", 120.0)
    alarm = Alarm()
    running = asyncio.create_task(alarm.timers.run())
    yield alarm
    running.cancel()


async def test_each_key_rings_once_at_its_last_time(alarm: Alarm) -> None:
    alarm.timers.set("late", START + timedelta(seconds=60))
    alarm.timers.set("moved", START + timedelta(seconds=10))
    alarm.timers.set("moved", START + timedelta(seconds=40))
    alarm.timers.set("cleared", START + timedelta(seconds=10))
    alarm.timers.clear("cleared")
    alarm.watch.shows += timedelta(seconds=20)
    await alarm.rings()
    alarm.watch.shows += timedelta(seconds=30)
    await alarm.rings("moved")
    alarm.watch.shows += timedelta(seconds=30)
    await alarm.rings("moved", "late")


async def test_a_clock_set_forward_rings_what_has_become_due(alarm: Alarm) -> None:
    alarm.timers.set("soon", START + timedelta(minutes=5))
    alarm.timers.set("later", START + timedelta(hours=5))
    await alarm.rings()
    alarm.watch.shows += timedelta(hours=1)
    await alarm.rings("soon")


async def test_a_clock_set_back_rings_everybody_and_keeps_the_timers(alarm: Alarm) -> None:
    alarm.timers.set("one", START + timedelta(hours=1))
    alarm.timers.set("two", START + timedelta(hours=2))
    await alarm.rings()
    alarm.watch.shows -= timedelta(hours=3)
    await alarm.rings("one", "two")
    alarm.watch.shows += timedelta(hours=4)
    await alarm.rings("one", "two", "one")


async def test_errands_end_with_what_they_run_beside() -> None:
    errands = Errands()
    done: list[str] = []

    async def errand(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        done.append(name)

    errands.start(errand("quick", 0.0))
    await errands.rest()
    errands.start(errand("slow", 10.0))
    await errands.beside(asyncio.sleep(0.01))
    assert done == ["quick"]
