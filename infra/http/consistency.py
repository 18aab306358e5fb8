"""Read your own writes: a query names the log position it must not be behind, and waits for it."""

import asyncio
import heapq
import itertools
from collections.abc import Iterable

from infra.http.authentication import header
from infra.http.problems import Problem, invalid_header, unavailable

HEADER = b"log-position"
WAIT_SECONDS = 2.0
_DIGITS_MAX = 19


def position_token(position: int) -> str:
    """The `Log-Position` of an answer. Clients pass it on and must not look into it."""
    return str(position)


def required_position(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The position an ASGI request asks for; 0 where it asks for none. Raises a 422 problem."""
    value = header(headers, HEADER)
    if value is None:
        return 0
    if not (value.isdigit() and len(value) <= _DIGITS_MAX):
        raise invalid_header("Log-Position", "This is not a position that we have handed out.")
    return int(value)


class Applied:
    """How far everything that this process reads from has been applied, and who waits for more."""

    def __init__(self, position: int = 0) -> None:
        self._position = position
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @property
    def position(self) -> int:
        return self._position

    def advance(self, position: int) -> None:
        """Note that all events up to here are applied; lower positions than before are ignored."""
        if position <= self._position:
            return
        self._position = position
        while self._waiting and self._waiting[0][0] <= position:
            waiter = heapq.heappop(self._waiting)[2]
            if not waiter.done():
                waiter.set_result(None)

    def rewind(self, position: int) -> None:
        """Note that a store was replaced by one that is not as far."""
        self._position = position

    async def wait(self, position: int, seconds: float = WAIT_SECONDS) -> bool:
        """Return True once `position` is applied, False after `seconds`."""
        if position <= self._position:
            return True
        waiter = asyncio.get_running_loop().create_future()
        entry = (position, next(self._order), waiter)
        heapq.heappush(self._waiting, entry)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            return False
        finally:
            # Who gives up leaves: positions that never come must not pile up.
            if position > self._position:
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)
        return True

    async def require(self, position: int, seconds: float = WAIT_SECONDS) -> None:
        """Wait for a position. Raises a 503 problem when it is not applied in time."""
        if not await self.wait(position, seconds):
            raise behind()


def behind() -> Problem:
    return unavailable("What this reads has not caught up with that Log-Position yet.")
