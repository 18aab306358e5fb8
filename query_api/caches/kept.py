"""Something that takes long to find out, and may be a little old: found out by one for all."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from infra.http.consistency import Applied
from infra.ports.reads import ReadsUnavailable

log = structlog.get_logger(__name__)

FRESH_SECONDS = 0.25
FRESH_TIMES = 20
"""What took long to find out is kept for so many times as long: it costs a twentieth of a core."""

CHEAP_SECONDS = 0.05
"""Up to here it is waited for; what takes longer is handed out once more while it is renewed."""

STALE_TIMES = 4

T = TypeVar("T")


class Kept(Generic[T]):
    """Renewed when it is asked for and no longer fresh, never twice at the same time."""

    def __init__(
        self,
        find_out: Callable[[], Awaitable[T]],
        applied: Applied,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find_out = find_out
        self._applied = applied
        self._clock = clock
        self._found: tuple[T, int, float, float] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._wanted = 0
        self._failing = False

    @property
    def failing(self) -> bool:
        """Whether renewing it failed when that was last tried, so what is handed out is old."""
        return self._failing

    async def get(self, after: int = 0) -> T:
        """What was found out after everything up to a position was applied, which it is by now.

        Raises `ReadsUnavailable`.
        """
        # A renewal that begins from here on covers this position; one under way may not.
        self._wanted = max(self._wanted, after)
        while True:
            found = self._found
            if found is None or found[1] < after:
                await self._renewed()
                continue
            value, _, since, cost = found
            age, fresh = self._clock() - since, max(FRESH_SECONDS, FRESH_TIMES * cost)
            if age <= fresh:
                return value
            if cost <= CHEAP_SECONDS or age > STALE_TIMES * fresh:
                return await self._renewed_or(value)
            self._renew()
            return value

    async def _renewed(self) -> None:
        # Whoever stops waiting does not stop it for the others.
        await asyncio.shield(self._renew())

    async def _renewed_or(self, value: T) -> T:
        """What is known is better than nothing while it cannot be found out anew."""
        try:
            await self._renewed()
        except ReadsUnavailable:
            return value
        assert self._found is not None
        return self._found[0]

    def _renew(self) -> "asyncio.Task[None]":
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._find())
            self._renewal.add_done_callback(self._ended)
        return self._renewal

    async def _find(self) -> None:
        position, started = max(self._applied.position, self._wanted), self._clock()
        value = await self._find_out()
        ended = self._clock()
        self._found = (value, position, ended, ended - started)

    def _ended(self, renewal: "asyncio.Task[None]") -> None:
        self._renewal = None
        self._failing = renewal.cancelled() or renewal.exception() is not None
        if not renewal.cancelled() and (error := renewal.exception()) is not None:
            known = isinstance(error, ReadsUnavailable)
            log.warning("kept.not_renewed", error=repr(error), exc_info=None if known else error)
