"""Follows the log inside this process and hands frames to what the worker keeps: no broker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from structlog.stdlib import get_logger

from infra.ports import Frame, LogUnavailable, ProjectionRunner
from infra.runtime.frames import LogLines, frames_between
from infra.tables import StoreUnavailable

LINES_MAX = 5_000
WAIT_SECONDS = 1.0
PAUSE_SECONDS = 1.0
FRAMES_AHEAD = 1
"""While a batch is being written the next one is read and decoded, but not more."""

log = get_logger(__name__)


class EmbeddedRunner:
    """Reads the log after the least checkpoint, and goes on where it ends until cancelled.

    A batch is whatever waits, up to a limit: one event when little is written, thousands when much
    is. What is applied already is handed over again after a restart, and skipped there.
    """

    def __init__(
        self,
        lines: LogLines,
        target: ProjectionRunner,
        partitions: Sequence[int],
        lines_max: int = LINES_MAX,
    ) -> None:
        self._lines = lines
        self._target = target
        self._partitions = partitions
        self._lines_max = lines_max

    async def run(self) -> None:
        """Follow the log for ever. Outlives stores and log being away."""
        while True:
            try:
                await self._follow()
            except* (StoreUnavailable, LogUnavailable, ConnectionError, TimeoutError) as group:
                log.warning("runner.stores_away", errors=[str(e) for e in group.exceptions])
            await asyncio.sleep(PAUSE_SECONDS)

    async def run_to(
        self, position: int, progress: Callable[[int], None] = lambda _position: None
    ) -> None:
        """Apply everything up to a position, and return. Raises what `run` would outlive."""
        reached = await self._start()
        async with self._ahead(reached) as ahead:
            while reached < position:
                frames = await ahead.get()
                await self._target.apply(frames)
                reached = frames[0].last
                progress(reached)

    async def _follow(self) -> None:
        after = await self._start()
        log.info("runner.follows", after=after)
        async with self._ahead(after) as ahead:
            while True:
                await self._target.apply(await ahead.get())

    @contextlib.asynccontextmanager
    async def _ahead(self, after: int) -> AsyncIterator[asyncio.Queue[Sequence[Frame]]]:
        """A queue into which the log is read, while the block lasts."""
        ahead: asyncio.Queue[Sequence[Frame]] = asyncio.Queue(FRAMES_AHEAD)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read(after, ahead))
            try:
                yield ahead
            finally:
                reading.cancel()

    async def _start(self) -> int:
        checkpoints = await self._target.checkpoints()
        return min(checkpoints[partition] for partition in self._partitions)

    async def _read(self, after: int, ahead: asyncio.Queue[Sequence[Frame]]) -> None:
        while True:
            frames, after = await self._next(after)
            if frames:
                await ahead.put(frames)

    async def _next(self, after: int) -> tuple[Sequence[Frame], int]:
        """The frames of what the log has next, and where they end; nothing if nothing came."""
        lines = await self._lines.read_lines(after, self._lines_max)
        if not lines:
            await self._lines.wait(after, WAIT_SECONDS)
            return (), after
        last = lines[-1].position
        return frames_between(after, last, lines, self._partitions), last
