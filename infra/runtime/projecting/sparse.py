"""Spares an applier frames that hold nothing for it: the other half's events then cost it little.

A frame without events says how far a partition is; that may be told a little later, with the next
frame that has some. Frames are joined so that no gap shows.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

from infra.ports.frames import Frame
from infra.ports.log import LogUnavailable
from infra.ports.tables import StoreUnavailable
from infra.runtime.projecting.project import FrameApplier

QUIET_SECONDS = 0.5


class Sparse:
    """`FrameApplier` that hands on frames at once where one has events, and else now and then."""

    def __init__(
        self,
        applier: FrameApplier,
        quiet_seconds: float = QUIET_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._applier = applier
        self._quiet_seconds = quiet_seconds
        self._monotonic = monotonic
        self._applied_at = 0.0
        self._held: dict[int, Frame] = {}
        self._turn = asyncio.Lock()
        self._telling: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self._applier.name

    async def checkpoints(self) -> Mapping[int, int]:
        return await self._applier.checkpoints()

    async def apply(self, frames: Sequence[Frame]) -> None:
        async with self._turn:
            now = self._monotonic()
            empty = not any(frame.events or frame.unreadable for frame in frames)
            joined = [self._joined(frame) for frame in frames]
            if empty and now < self._applied_at + self._quiet_seconds:
                self._held.update((frame.partition, frame) for frame in joined)
                if self._telling is None or self._telling.done():
                    self._telling = asyncio.create_task(self._tell_later())
                return
            await self._apply(joined)

    async def _tell_later(self) -> None:
        """Nothing may come any more: then what is held back is told all the same."""
        await asyncio.sleep(self._quiet_seconds)
        async with self._turn:
            # Where the stores are away, whoever hands frames over hears of it with the next ones.
            with contextlib.suppress(StoreUnavailable, LogUnavailable):
                await self._apply(list(self._held.values()))

    async def _apply(self, frames: Sequence[Frame]) -> None:
        if frames:
            await self._applier.apply(frames)
        for frame in frames:
            self._held.pop(frame.partition, None)
        self._applied_at = self._monotonic()

    def _joined(self, frame: Frame) -> Frame:
        """The frame with what was held back of its partition before it, if it follows that."""
        held = self._held.get(frame.partition)
        if held is None or frame.previous > held.last:
            return frame
        return replace_frame(frame, min(held.previous, frame.previous), held.first)


def replace_frame(frame: Frame, previous: int, first: int) -> Frame:
    return Frame(frame.partition, previous, first, frame.last, frame.events, frame.unreadable)
