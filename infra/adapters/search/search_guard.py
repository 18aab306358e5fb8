"""Keeps a slow or dead search server from holding up those who ask it.

Calls are bounded in time and in number. After several failures in a row the server is left alone
for a while, and then asked by one caller before the others.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from infra.ports.search_reads import SearchUnanswered

log = structlog.get_logger(__name__)


class ServerFailed(Exception):
    """The server did not do what it was asked, and would fail others too."""


@dataclass(frozen=True)
class Limits:
    """`running_max` calls are under way at most, and `waiting_max` wait for their turn."""

    seconds: float = 2.0
    running_max: int = 16
    waiting_max: int = 64
    failures_max: int = 5
    rest_seconds: float = 1.0
    rest_seconds_max: float = 15.0


class Guard:
    """Shared by all calls to one server."""

    def __init__(
        self, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits or Limits()
        self._clock = clock
        self._turns = asyncio.Semaphore(self.limits.running_max)
        self._waiting = 0
        self._failures = 0
        self._rest = self.limits.rest_seconds
        self._closed_until = 0.0
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether calls are let through."""
        return self._failures < self.limits.failures_max

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Do the call inside of this. Raises `SearchUnanswered`, also for `ServerFailed`."""
        probe = self._admit()
        try:
            async with asyncio.timeout(self.limits.seconds):
                async with self._turn():
                    yield
        except TimeoutError:
            self._failed("no answer in time", probe=probe)
            raise SearchUnanswered(
                f"The search server did not answer within {self.limits.seconds:g} s.",
                self.retry_seconds,
            ) from None
        except ServerFailed as error:
            self._failed(str(error), probe=probe)
            raise SearchUnanswered(
                "The search server failed to answer.", self.retry_seconds
            ) from error
        else:
            self._succeeded()
        finally:
            if probe:
                self._probing = False

    @property
    def retry_seconds(self) -> int:
        return max(1, math.ceil(self._closed_until - self._clock()))

    def _admit(self) -> bool:
        """Refuse who would wait in vain; answers whether this call tries the server for others."""
        if self._waiting >= self.limits.waiting_max:
            raise SearchUnanswered("Too many searches at once.")
        if self.open:
            return False
        if self._probing or self._clock() < self._closed_until:
            raise SearchUnanswered("The search server is not answering.", self.retry_seconds)
        self._probing = True
        return True

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()

    def _succeeded(self) -> None:
        if not self.open:
            log.info("search.answers_again")
        self._failures = 0
        self._rest = self.limits.rest_seconds

    def _failed(self, why: str, *, probe: bool) -> None:
        self._failures += 1
        if probe and self._failures > self.limits.failures_max:
            self._rest = min(self._rest * 2, self.limits.rest_seconds_max)
        elif self._failures != self.limits.failures_max:
            # Too few have failed yet, or this call began before the server was left alone.
            return
        self._closed_until = self._clock() + self._rest
        log.warning("search.left_alone", seconds=self._rest, error=why)
