"""Answers that are kept for a short while, each made once however many ask for it meanwhile."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from query_api.caches.generations import Generations

T = TypeVar("T")


class Flights:
    """`seconds`: for how long an answer is kept; 0: no longer than it is waited for.

    `made` and `shared` count the answers that were made for who asked, and those that were not.

    Who gives up waiting leaves the others waiting; once all have given up, the work is given up
    too. A failure is told to all who wait for it, and not kept.
    """

    def __init__(
        self, seconds: float, answers_max: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._flights: Generations[Hashable, Flight] = Generations(answers_max)
        self.made = self.shared = 0

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        flight = self._flights.get(key)
        if flight is None or flight.until <= self._clock():
            self.made += 1
            flight = Flight(asyncio.ensure_future(make()))
            flight.answer.add_done_callback(lambda _: self._landed(key, flight))
            self._flights.put(key, flight)
        else:
            self.shared += 1
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.answer)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.answer.done():
                self._flights.drop(key)
                flight.answer.cancel()

    def forget_all(self) -> None:
        self._flights.clear()

    def _landed(self, key: Hashable, flight: "Flight") -> None:
        answered = not flight.answer.cancelled() and flight.answer.exception() is None
        if answered and self._seconds > 0:
            flight.until = self._clock() + self._seconds
        elif self._flights.get(key) is flight:
            self._flights.drop(key)


class Flight:
    """One answer: under way, or there and kept until a moment."""

    __slots__ = ("answer", "until", "waiting")

    def __init__(self, answer: asyncio.Future[Any]) -> None:
        self.answer = answer
        self.until = float("inf")
        self.waiting = 0
