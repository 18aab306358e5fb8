"""Runs processes: hands them the events they react to, at least once each, and counts how far.

A process is pure in what it decides; its commands are harmless when repeated. So an event may be
handed to it again after a crash, and several events at once.
"""

import asyncio
import random
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from infra.formats.codec import Line, decode_lines, encode_state, stored_tag
from infra.ports.frames import SOCIAL_PARTITIONS, Frame, Unreadable, ordering_key
from infra.ports.log import LogUnavailable, Recorded, StreamMoved
from infra.ports.processes import Parked, Progress, Settled
from infra.runtime.frames.frames import LogLines, frames_between

ATTEMPTS_MAX = 5
BACKOFF_SECONDS = 0.1
BACKOFF_SECONDS_MAX = 5.0
REACTIONS_AT_ONCE = 16
REACTIONS_WAITING_MAX = 1_000
SLICE_LINES_MAX = 10_000
SAVE_SECONDS = 1.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Process:
    """What reacts to events. `react` must be harmless when repeated; it is tried again when it
    raises, and what it keeps raising on is set aside. `at_once`: to how many events it reacts at
    one moment. `wants`: which of the events that it handles it reacts to at all. `waiting_max`: how
    many may be under way or wait for their turn before it takes no more frames."""

    name: str
    handles: frozenset[type]
    react: Callable[[Recorded], Awaitable[None]]
    partitions: range = SOCIAL_PARTITIONS
    at_once: int = REACTIONS_AT_ONCE
    wants: Callable[[Any], bool] = lambda _event: True
    waiting_max: int = REACTIONS_WAITING_MAX

    def takes(self, recorded: Recorded) -> bool:
        return type(recorded.event) in self.handles and self.wants(recorded.event)


class ProcessRunner:
    """A `FrameTarget` for one process: takes frames, and reacts beside them.

    `apply` returns before the reactions have ended, so that a slow one holds nobody up; the
    checkpoint follows them, and whatever it does not cover is read from the log after a restart.
    """

    def __init__(self, process: Process, source: LogLines, progress: Progress) -> None:
        self._process = process
        self._source = source
        self._progress = progress
        self._taken: dict[int, int] | None = None
        self._saved: dict[int, int] = {}
        self._open: dict[int, set[int]] = {part: set() for part in process.partitions}
        self._turns = asyncio.Semaphore(process.at_once)
        self._room = asyncio.Semaphore(process.waiting_max)
        self._tasks: set[asyncio.Task[None]] = set()
        self._saving: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self._process.name

    async def checkpoints(self) -> Mapping[int, int]:
        """How far each partition has been taken in, so that frames go on from there."""
        return dict(await self._positions())

    async def apply(self, frames: Sequence[Frame]) -> None:
        taken = await self._positions()
        for frame in frames:
            if frame.partition not in taken or frame.last <= taken[frame.partition]:
                continue
            if frame.previous > taken[frame.partition]:
                await self._catch_up(frame.partition, frame.previous)
            await self._take(frame)
        self._start_saving()

    async def retry(self, row: Line) -> str:
        """React once more to an event that was set aside; answers what is still wrong with it."""
        events, unreadable = decode_lines((row,))
        error = unreadable[0].error if unreadable else ""
        try:
            for recorded in events:
                await self._process.react(recorded)
        except Exception as raised:
            # Whatever it is, the operator who asked is told, and may try again.
            error = repr(causes(raised)[0])
        status: Settled = "parked" if error else "retried"
        await self._progress.settle(self.name, row.position, status, error=error)
        return error

    async def discard(self, position: int, why: str) -> None:
        """Give an event up that was set aside."""
        await self._progress.settle(self.name, position, "discarded", why=why)

    async def idle(self) -> None:
        """Wait until everything taken in has been reacted to, and that is stored."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._save()

    async def close(self) -> None:
        """Stop; what is unfinished is done again after the next start."""
        tasks = [*self._tasks, *([self._saving] if self._saving else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _positions(self) -> dict[int, int]:
        if self._taken is None:
            stored = await self._progress.checkpoints(self._process.name)
            self._saved = {part: stored.get(part, 0) for part in self._process.partitions}
            self._taken = dict(self._saved)
        return self._taken

    async def _catch_up(self, partition: int, last: int) -> None:
        """Take what lies between the checkpoint and a frame from the log itself."""
        taken = await self._positions()
        # Another worker may have had this partition since we last did.
        stored = await self._progress.checkpoints(self._process.name)
        taken[partition] = max(taken[partition], stored.get(partition, 0))
        while (after := taken[partition]) < last:
            lines = await self._source.read_lines(after, SLICE_LINES_MAX)
            end = lines[-1].position if len(lines) == SLICE_LINES_MAX else last
            for frame in frames_between(after, min(end, last), lines, (partition,)):
                await self._take(frame)

    async def _take(self, frame: Frame) -> None:
        taken = await self._positions()
        for unreadable in frame.unreadable:
            if taken[frame.partition] < unreadable.position <= frame.last:
                await self._progress.park(self._process.name, parked_row(unreadable))
        for recorded in frame.events:
            if taken[frame.partition] < recorded.position <= frame.last:
                taken[frame.partition] = recorded.position
                if self._process.takes(recorded):
                    await self._start(frame.partition, recorded)
        taken[frame.partition] = frame.last

    async def _start(self, partition: int, recorded: Recorded) -> None:
        self._open[partition].add(recorded.position)
        await self._room.acquire()
        task = asyncio.create_task(self._react(partition, recorded))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _react(self, partition: int, recorded: Recorded) -> None:
        try:
            async with self._turns:
                await self._persist(partition, recorded)
        finally:
            self._room.release()
        self._open[partition].discard(recorded.position)
        self._start_saving()

    async def _persist(self, partition: int, recorded: Recorded) -> None:
        """React until it succeeds, or has failed too often; while the log is away, wait for it."""
        attempts, waits = 0, 0
        while True:
            try:
                await self._process.react(recorded)
            except Exception as error:
                leaves = causes(error)
                if not all(isinstance(leaf, LogUnavailable | StreamMoved) for leaf in leaves):
                    attempts += 1
                log.warning(
                    "process.failed",
                    process=self._process.name,
                    position=recorded.position,
                    attempts=attempts,
                    error=repr(leaves[0]),
                )
                if attempts == ATTEMPTS_MAX:
                    await self._park(partition, recorded, error, attempts)
                    return
                waits += 1
                await backoff(waits)
            else:
                return

    async def _park(
        self, partition: int, recorded: Recorded, error: Exception, attempts: int
    ) -> None:
        parked = Parked(
            position=recorded.position,
            stream=recorded.stream,
            version=recorded.version,
            tag=stored_tag(recorded),
            key=ordering_key(recorded.event),
            partition=partition,
            state=encode_state(recorded),
            error=repr(causes(error)[0]),
            trace="".join(traceback.format_exception(error)),
            attempts=attempts,
        )
        await self._until_stored(lambda: self._progress.park(self._process.name, parked))

    def _start_saving(self) -> None:
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self._save_soon())

    async def _save_soon(self) -> None:
        # Watermarks come often and mean little: they share one write.
        while self._moved():
            await asyncio.sleep(SAVE_SECONDS)
            await self._until_stored(self._save)

    async def _save(self) -> None:
        moved = self._moved()
        if moved:
            await self._progress.advance(self._process.name, moved)
            self._saved.update(moved)

    def _moved(self) -> dict[int, int]:
        """The partitions of which more has been reacted to than is stored."""
        covered = {
            partition: min(self._open[partition], default=taken + 1) - 1
            for partition, taken in (self._taken or {}).items()
        }
        return {part: at for part, at in covered.items() if at > self._saved[part]}

    async def _until_stored(self, write: Callable[[], Awaitable[None]]) -> None:
        attempts = 0
        while True:
            try:
                await write()
            except LogUnavailable:
                attempts += 1
                await backoff(attempts)
            else:
                return


async def backoff(attempts: int) -> None:
    longest = min(BACKOFF_SECONDS * 2**attempts, BACKOFF_SECONDS_MAX)
    await asyncio.sleep(random.uniform(longest / 2, longest))


def causes(error: BaseException) -> list[BaseException]:
    """The errors that a task group joined into one, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in causes(part)]
    return [error]


def parked_row(row: Unreadable) -> Parked:
    return Parked(
        position=row.position,
        stream=row.stream,
        version=row.version,
        tag=row.tag,
        key=row.key,
        partition=row.partition,
        state=row.state,
        error=row.error,
        trace="",
        attempts=1,
    )
