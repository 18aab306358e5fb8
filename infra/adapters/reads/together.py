"""Joins what many ask for at one moment into one statement."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from infra.ports.log import LogUnavailable
from infra.ports.reads import ReadsUnavailable

K = TypeVar("K")
V = TypeVar("V")

KEYS_MAX = 1_000


class Together(Generic[K, V]):
    """What is on its way when a key is asked for is not waited for: it may be too old.

    A statement that is refused is repeated for each key alone, so that nobody fails for another's
    key. While the server is away, everybody fails at once.
    """

    def __init__(self, ask_all: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        """`ask_all` answers what is found; a key that is left out is answered with None."""
        self._ask_all = ask_all
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, key: K) -> V | None:
        return await asyncio.shield(self._future(key))

    async def ask_many(self, keys: Collection[K]) -> Mapping[K, V]:
        """What is found under these keys."""
        futures = {key: asyncio.shield(self._future(key)) for key in keys}
        answers = await asyncio.gather(*futures.values())
        return {key: a for key, a in zip(futures, answers, strict=True) if a is not None}

    def _future(self, key: K) -> "asyncio.Future[V | None]":
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return future

    async def _ask(self) -> None:
        while self._waiting:
            keys = list(self._waiting)[:KEYS_MAX]
            await self._answer({key: self._waiting.pop(key) for key in keys})

    async def _answer(self, waiting: Mapping[K, "asyncio.Future[V | None]"]) -> None:
        try:
            found = await self._ask_all(list(waiting))
        except (LogUnavailable, ReadsUnavailable) as away:
            refuse(waiting.values(), away)
        except Exception as error:
            # Whatever it is, it is raised where it was asked for.
            if len(waiting) == 1:
                refuse(waiting.values(), error)
                return
            for key, future in waiting.items():
                await self._answer({key: future})
        else:
            for key, future in waiting.items():
                future.set_result(found.get(key))


def refuse(waiting: Iterable["asyncio.Future[Any]"], error: Exception) -> None:
    for future in waiting:
        future.set_exception(error)
