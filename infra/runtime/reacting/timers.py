"""Timers by a clock that may jump, and work that is started beside its caller."""

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

from infra.ports.log import Clock

LOOK_SECONDS = 1.0
"""Timers look at the clock this often at least, so that a jump of the clock is noticed."""
BACK_SECONDS = 1.0
"""A clock that falls back by more than this, against the time that passes, was set back."""


class Timers:
    """Calls `due` with each key once its time has come.

    When the clock is set forward, what has become due is due at once. When it is set back, `due` is
    called with every key, whose timer stays: whoever waits may look again at how long.
    """

    def __init__(self, clock: Clock, due: Callable[[Any], None]) -> None:
        self._clock = clock
        self._due = due
        self._times: dict[Any, datetime] = {}
        self._heap: list[tuple[datetime, int, Any]] = []
        self._number = 0
        self._changed = asyncio.Event()

    def set(self, key: Any, at: datetime) -> None:
        """Wake this key at that time, and at no other."""
        if self._times.get(key) == at:
            return
        self._times[key] = at
        self._number += 1
        heapq.heappush(self._heap, (at, self._number, key))
        if self._heap[0][2] == key:
            self._changed.set()

    def clear(self, key: Any) -> None:
        self._times.pop(key, None)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        now, passed = self._clock(), loop.time()
        while True:
            self._changed.clear()
            expected = now + timedelta(seconds=loop.time() - passed - BACK_SECONDS)
            now, passed = self._clock(), loop.time()
            if now < expected:
                self._ring_all()
            seconds = self._ring(now)
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _ring_all(self) -> None:
        for key in tuple(self._times):
            self._due(key)

    def _ring(self, now: datetime) -> float:
        """Ring what is due; answers how long to sleep."""
        while self._heap:
            at, _, key = self._heap[0]
            if self._times.get(key) != at:
                heapq.heappop(self._heap)
            elif at <= now:
                heapq.heappop(self._heap)
                del self._times[key]
                self._due(key)
            else:
                return min((at - now).total_seconds(), LOOK_SECONDS)
        return LOOK_SECONDS


class Errands:
    """Work that goes on beside whoever starts it, until it ends or all of it is dropped."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def beside(self, main: Coroutine[Any, Any, None]) -> None:
        """Run `main` to its end, or until cancelled; what was started is then dropped."""
        try:
            await main
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def rest(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)
