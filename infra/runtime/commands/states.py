"""States of streams: folded from the log when they are asked for, and those met last remembered."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

from msgspec import Struct

from domain.shared.decider import Decider
from infra.ports.log import EventLog, LogUnavailable, Recorded

LOADS_AT_ONCE_MAX = 2

Deciders = Mapping[type, Decider[Any, Any, Any]]
"""Command types, and who decides each."""


class State(Struct, frozen=True):
    """A stream, folded: `version` 0 and no positions where it has no events.

    `seen_at`: when the log was last known to say so, in seconds of the monotonic clock.
    """

    value: Any
    version: int = 0
    first_position: int = 0
    last_position: int = 0
    seen_at: float = 0.0


class Memory:
    """The states of the streams that were met last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._states: OrderedDict[str, State] = OrderedDict()

    def get(self, stream: str) -> State | None:
        state = self._states.get(stream)
        if state is not None:
            self._states.move_to_end(stream)
        return state

    def put(self, stream: str, state: State) -> None:
        self._states[stream] = state
        self._states.move_to_end(stream)
        if len(self._states) > self._size:
            self._states.popitem(last=False)

    def put_newer(self, stream: str, state: State) -> None:
        """Keep this state unless a newer one is known."""
        known = self._states.get(stream)
        if known is None or known.version <= state.version:
            self.put(stream, state)

    def forget(self, stream: str) -> None:
        self._states.pop(stream, None)


class Loads:
    """Loads streams and remembers them; joins what is asked for at one moment into one round trip.

    What is on its way when a stream is asked for is not waited for: it may be too old.
    """

    def __init__(self, log: EventLog, deciders: Deciders, memory: Memory) -> None:
        self._log = log
        self._deciders = {decider.prefix: decider for decider in deciders.values()}
        self._memory = memory
        self._asked: dict[str, list[asyncio.Future[State]]] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def load(self, streams: Iterable[str]) -> dict[str, State]:
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._start)
        futures = {stream: loop.create_future() for stream in streams}
        for stream, future in futures.items():
            self._asked.setdefault(stream, []).append(future)
        loaded = dict(zip(futures, await asyncio.gather(*futures.values()), strict=True))
        for stream, state in loaded.items():
            if state.version:
                self._memory.put_newer(stream, state)
        return loaded

    def _start(self) -> None:
        if self._asked and len(self._under_way) < LOADS_AT_ONCE_MAX:
            asked, self._asked = self._asked, {}
            task = asyncio.create_task(self._fetch(asked))
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._start()

    async def _fetch(self, asked: dict[str, list[asyncio.Future[State]]]) -> None:
        try:
            found = await self._log.load_many(asked)
        except LogUnavailable as error:
            refuse(error, asked.values())
            return
        except Exception as error:
            # One stream that cannot be read must not hide the others.
            if len(asked) == 1:
                refuse(error, asked.values())
            for stream, futures in asked.items() if len(asked) > 1 else ():
                await self._fetch({stream: futures})
            return
        for stream, futures in asked.items():
            try:
                state = self._fold(stream, found.get(stream, ()))
            except Exception as error:
                refuse(error, (futures,))
                continue
            for future in futures:
                if not future.done():
                    future.set_result(state)

    def _fold(self, stream: str, history: Sequence[Recorded]) -> State:
        decider = self._deciders[stream.partition(":")[0]]
        if not history:
            return State(decider.initial)
        return State(
            reduce(decider.evolve, (one.event for one in history), decider.initial),
            history[-1].version,
            history[0].position,
            history[-1].position,
            time.monotonic(),
        )


def refuse(error: Exception, waiting: Iterable[Sequence[asyncio.Future[State]]]) -> None:
    for futures in waiting:
        for future in futures:
            if not future.done():
                future.set_exception(error)
