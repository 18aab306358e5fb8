"""Follows the log inside this process and hands frames to what the worker keeps: no broker."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from structlog.stdlib import get_logger

from infra.ports.frames import Frame, FrameTarget
from infra.ports.log import LogUnavailable
from infra.ports.tables import StoreUnavailable
from infra.runtime.frames.frames import LogLines, frames_between

LINES_MAX = 5_000
WAIT_SECONDS = 1.0
PAUSE_SECONDS = 1.0
log = get_logger(__name__)


class EmbeddedRunner:
    """Reads the log after the least checkpoint, and goes on where it ends until cancelled.

    A batch is whatever waits, up to a limit: one event when little is written, thousands when much
    is. What is applied already is handed over again after a restart, and skipped there.
    """

    def __init__(
        self,
        lines: LogLines,
        target: FrameTarget,
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
            except (StoreUnavailable, LogUnavailable, ConnectionError, TimeoutError) as error:
                log.warning("runner.stores_away", error=str(error))
            await asyncio.sleep(PAUSE_SECONDS)

    async def run_to(
        self, position: int, progress: Callable[[int], None] = lambda _position: None
    ) -> None:
        """Apply everything up to a position, and return. Raises what `run` would outlive."""
        after = await self._start()
        if after >= position:
            return
        async with contextlib.aclosing(self._apply_after(after)) as applied:
            async for reached in applied:
                progress(reached)
                if reached >= position:
                    return

    async def _follow(self) -> None:
        after = await self._start()
        log.info("runner.follows", after=after)
        async with contextlib.aclosing(self._apply_after(after)) as applied:
            async for _ in applied:
                pass

    async def _apply_after(self, after: int) -> AsyncGenerator[int, None]:
        """Apply batch by batch, and yield the position after each."""
        batch = await self._next(after)
        while True:
            # A full batch means that more waits: it is read and decoded while this one is written.
            # Otherwise what comes meanwhile is better read at once, afterwards.
            ahead = asyncio.create_task(self._next(batch.last)) if batch.full else None
            try:
                if batch.frames:
                    await self._target.apply(batch.frames)
                    yield batch.last
                batch = await (ahead or self._next(batch.last))
            finally:
                if ahead is not None:
                    ahead.cancel()

    async def _start(self) -> int:
        checkpoints = await self._target.checkpoints()
        return min(checkpoints[partition] for partition in self._partitions)

    async def _next(self, after: int) -> "Batch":
        """What the log has next, or nothing if nothing comes within a while."""
        lines = await self._lines.read_lines(after, self._lines_max)
        if not lines:
            await self._lines.wait(after, WAIT_SECONDS)
            return Batch((), after, full=False)
        last = lines[-1].position
        frames = frames_between(after, last, lines, self._partitions)
        return Batch(frames, last, full=len(lines) == self._lines_max)


@dataclass(frozen=True)
class Batch:
    frames: Sequence[Frame]
    last: int
    full: bool
