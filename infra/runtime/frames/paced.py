"""Reads the log not more often than at a pace, so that what waits is taken in larger pieces.

What comes after a quiet moment is read at once; under load a pause costs a little of each event's
time, and saves most of what a read, and what follows from it, costs besides its events.
"""

import asyncio
import time
from collections.abc import Sequence

from infra.formats.codec import Line
from infra.runtime.frames.frames import LogLines


class Paced:
    """`LogLines` with at least `pause_seconds` from one read to the next."""

    def __init__(self, lines: LogLines, pause_seconds: float) -> None:
        self._lines = lines
        self._pause_seconds = pause_seconds
        self._read_at = 0.0
        self.head = lines.head
        self.wait = lines.wait

    async def read_lines(self, after: int, limit: int) -> Sequence[Line]:
        early = self._read_at + self._pause_seconds - time.monotonic()
        if early > 0:
            await asyncio.sleep(early)
        self._read_at = time.monotonic()
        return await self._lines.read_lines(after, limit)
