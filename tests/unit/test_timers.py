"""Timers ring when their time has come, whatever the clock does meanwhile."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from infra.runtime.timers import Errands, Timers

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Watch:
    """A clock that is set by hand and else shows the time that passes."""

    def __init__(self) -> None:
        self._began = asyncio.get_running_loop().time()
        self.set_by = timedelta()

    def __call__(self) -> datetime:
        passed = asyncio.get_running_loop().time() - self._began
        return START + timedelta(seconds=passed) + self.set_by


@pytest.fixture(autouse=True)
def quick_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.runtime.timers.LOOK_SECONDS", 0.02)


@pytest.fixture
async def watch() -> Watch:
    return Watch()


class Alarm:
    def __init__(self, watch: Watch) -> None:
        self.rung: list[str] = []
        self.timers = Timers(watch, self.rung.append)

    def run(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self.timers.run())


async def test_each_key_rings_once_at_its_last_time(watch: Watch) -> None:
    alarm = Alarm(watch)
    alarm.timers.set("late", START + timedelta(seconds=0.06))
    alarm.timers.set("moved", START + timedelta(seconds=0.01))
    alarm.timers.set("moved", START + timedelta(seconds=0.04))
    alarm.timers.set("cleared", START + timedelta(seconds=0.01))
    alarm.timers.clear("cleared")
    running = alarm.run()
    await asyncio.sleep(0.02)
    assert alarm.rung == []
    await asyncio.sleep(0.1)
    assert alarm.rung == ["moved", "late"]
    running.cancel()


async def test_a_clock_set_forward_rings_what_has_become_due(watch: Watch) -> None:
    alarm = Alarm(watch)
    alarm.timers.set("soon", START + timedelta(minutes=5))
    alarm.timers.set("later", START + timedelta(hours=5))
    running = alarm.run()
    await asyncio.sleep(0.03)
    assert alarm.rung == []
    watch.set_by = timedelta(hours=1)
    await asyncio.sleep(0.06)
    assert alarm.rung == ["soon"]
    running.cancel()


async def test_a_clock_set_back_rings_everybody_and_keeps_the_timers(watch: Watch) -> None:
    alarm = Alarm(watch)
    alarm.timers.set("one", START + timedelta(hours=1))
    alarm.timers.set("two", START + timedelta(hours=2))
    running = alarm.run()
    await asyncio.sleep(0.03)
    watch.set_by = -timedelta(hours=3)
    await asyncio.sleep(0.06)
    assert alarm.rung == ["one", "two"]
    watch.set_by = timedelta(hours=1)
    await asyncio.sleep(0.06)
    assert alarm.rung == ["one", "two", "one"]
    running.cancel()


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
