"""A cache that holds what is true because it is told what changes."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from query_api.caches.flights import Flights

LOADS_MAX = 10_000

T = TypeVar("T")


class ToldCache(ABC):
    """While nobody tells of changes, nothing is kept.

    Whoever forgets what was told to have changed counts it in `_told`.
    """

    def __init__(self) -> None:
        self._keeping = False
        self._told = 0
        self._under_way = Flights(0.0, LOADS_MAX)

    def begin(self) -> None:
        """Keep what is loaded from now on: changes are being told."""
        self._keeping = True

    def end(self) -> None:
        """Forget everything and keep nothing: changes are no longer told."""
        self._keeping = False
        self.forget_all()

    @abstractmethod
    def forget_all(self) -> None: ...

    async def _together(self, key: Hashable, load: Callable[[], Awaitable[T]]) -> T:
        """What is loaded, once for all who want the same at the same time.

        A load that began before the last change was told is not joined: it may have read from
        before that change, which whoever asks now may have waited for.
        """
        if not self._keeping:
            return await load()
        return await self._under_way.get((self._told, key), load)
