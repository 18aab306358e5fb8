"""Turns at streams: one command of this process works on a stream at a time."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence


class Turns:
    """Lets one command at a time work on a stream; the others wait, first come, first served.

    Two of one process would otherwise decide on the same version, and one of them for nothing.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]] | None] = {}

    async def take(self, streams: Sequence[str]) -> None:
        """Wait for all of these, one after the other."""
        for place, stream in enumerate(streams):
            if stream not in self._waiting:
                self._waiting[stream] = None
                continue
            try:
                await self._wait(stream)
            except BaseException:
                self.give_back(streams[:place])
                raise

    async def _wait(self, stream: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        line = self._waiting[stream]
        if line is None:
            line = self._waiting[stream] = deque()
        line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back((stream,))
            raise

    def give_back(self, streams: Iterable[str]) -> None:
        for stream in streams:
            line = self._waiting[stream]
            while line:
                turn = line.popleft()
                if not turn.done():
                    turn.set_result(None)
                    break
            else:
                del self._waiting[stream]
