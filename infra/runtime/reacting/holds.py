"""Keeps the timers of processes that do nothing but wait and then command something."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, TypeVar

import structlog

from domain.shared.message import Command
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.ports.log import Clock, LogUnavailable, Recorded, StreamMoved
from infra.runtime.commands.execute import Execute
from infra.runtime.reacting.react import Process
from infra.runtime.reacting.sagas import RETRY_SECONDS
from infra.runtime.reacting.timers import Errands, Timers

K = TypeVar("K")

log = structlog.get_logger(__name__)


class Waiting(Generic[K]):
    """Timers that events set and clear. They are nowhere but in memory and in the log: what was
    waited for when a process ended is set again at the next start."""

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        name: str,
        handles: frozenset[type],
        timer: Callable[[Any], tuple[K, datetime | None]],
        due: Callable[[K], Command],
        execute: Execute,
        clock: Clock,
    ) -> None:
        self.process = Process(name, handles, self._react, COMMERCE_PARTITIONS)
        self._timer = timer
        self._due = due
        self._execute = execute
        self._timers = Timers(clock, self._ring)
        self._errands = Errands()

    async def run(self) -> None:
        await self._errands.beside(self._timers.run())

    def set(self, key: K, at: datetime) -> None:
        self._timers.set(key, at)

    async def _react(self, recorded: Recorded) -> None:
        key, at = self._timer(recorded.event)
        if at is None:
            self._timers.clear(key)
        else:
            self._timers.set(key, at)

    def _ring(self, key: K) -> None:
        self._errands.start(self._command(key))

    async def _command(self, key: K) -> None:
        while True:
            try:
                await self._execute(self._due(key))
            except (LogUnavailable, StreamMoved) as error:
                log.warning("timer.waits", timer=str(key), error=repr(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return
