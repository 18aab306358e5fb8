"""Applies frames to read tables: once each and in order, whatever comes twice, late or not at all.

Every runner calls this and adds nothing to it. How far a partition is stands beside the tables and
moves with them in one transaction. What a frame names as its predecessor tells whether anything is
missing; that is taken from the log. An event that cannot be folded parks its key, not its
partition; where many keys fail alike, nothing is parked, and whoever applies is told.
"""

import asyncio
import random
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from structlog.stdlib import get_logger

from infra.formats.codec import EVENT_CLASSES, encode_state, stored_tag
from infra.ports.frames import Frame, Unreadable, ordering_key, partition_of
from infra.ports.log import LogUnavailable, Recorded
from infra.ports.tables import Change, DeadLetter, StoreUnavailable, TableStore, TableTransaction
from infra.runtime.frames.frames import LogLines, frames_between
from infra.runtime.projecting.alike import Alike
from infra.runtime.projecting.projection import Projection

CATCH_UP_LINES = 5_000
PATIENCE_SECONDS = 60.0
"""How long a frame is tried again before the runner is told that the stores stay away."""

BACKOFF_SECONDS = 0.05
BACKOFF_SECONDS_MAX = 3.0

log = get_logger(__name__)


class FrameApplier(Protocol):
    """Something that is kept current by frames: read tables, or pushed timelines."""

    @property
    def name(self) -> str: ...

    async def checkpoints(self) -> Mapping[int, int]:
        """How far each of its partitions has been applied."""
        ...

    async def apply(self, frames: Sequence[Frame]) -> None:
        """Apply frames once each, whatever their order and number of deliveries.

        Raises only when the stores stay away; then nothing is lost by applying the same again.
        """
        ...


class GapFound(Exception):
    """A frame's predecessor has not been applied in these partitions."""

    def __init__(self, partitions: set[int]) -> None:
        super().__init__(f"partitions {sorted(partitions)}")
        self.partitions = partitions


@dataclass
class Plan:
    """What of some frames a projection has not applied yet, and where it then is."""

    events: list[Recorded] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)


class Projector:
    """`FrameApplier` for projections that keep tables in one store."""

    name = "tables"

    def __init__(
        self,
        projections: Sequence[Projection],
        store: TableStore,
        lines: LogLines,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._projections = projections
        self._store = store
        self._lines = lines
        self._patience_seconds = patience_seconds

    async def checkpoints(self) -> Mapping[int, int]:
        """The least of all projections, by partition."""
        found = await persist(self._store.checkpoints, self._patience_seconds)
        least: dict[int, int] = {}
        for positions in found.values():
            for partition, position in positions.items():
                least[partition] = min(least.get(partition, position), position)
        return least

    async def apply(self, frames: Sequence[Frame]) -> None:
        """See `FrameApplier.apply`. Raises `StoreUnavailable` or `LogUnavailable`, and `FoldBroken`
        where no patience helps."""
        wanted = {p for projection in self._projections for p in projection.partitions}
        ordered = sorted(
            (frame for frame in frames if frame.partition in wanted),
            key=lambda frame: (frame.partition, frame.first, frame.last),
        )
        if ordered:
            await persist(lambda: self._apply(ordered), self._patience_seconds)

    async def _apply(self, frames: Sequence[Frame]) -> None:
        try:
            await self._apply_together(frames)
        except GapFound as gap:
            await self._catch_up(gap.partitions, frames)
            await self._apply(frames)
        except (StoreUnavailable, LogUnavailable):
            raise
        except Exception as error:
            # Some event cannot be folded or written. Which one, and for which projection, is found
            # out by taking the batch apart; the transaction it spoiled has been rolled back.
            log.warning("projection.batch_failed", error=repr(error))
            for projection in self._concerned(frames):
                await self._apply_apart(projection, frames)

    def _concerned(self, frames: Sequence[Frame]) -> list[Projection]:
        partitions = set(partitions_of(frames))
        return [p for p in self._projections if not partitions.isdisjoint(p.partitions)]

    async def _apply_together(self, frames: Sequence[Frame]) -> None:
        """All projections in one transaction."""
        projections = self._concerned(frames)
        names = [projection.name for projection in projections]
        async with self._store.transaction(names, partitions_of(frames)) as transaction:
            for projection in projections:
                plan = planned(frames, transaction.checkpoints[projection.name])
                events, letters = set_aside(projection, plan, transaction.parked[projection.name])
                await transaction.park(letters)
                await projection.prepare(events)
                await transaction.write(projection.name, fold(projection, events))
                transaction.advance(projection.name, plan.positions)

    async def _apply_apart(self, projection: Projection, frames: Sequence[Frame]) -> None:
        """One projection, with every event that fails set aside."""
        async with self._store.transaction([projection.name], partitions_of(frames)) as transaction:
            plan = planned(frames, transaction.checkpoints[projection.name])
            events, letters = set_aside(projection, plan, transaction.parked[projection.name])
            await transaction.park(letters)
            await projection.prepare(events)
            alike = Alike(projection.name)
            await write_apart(projection, events, transaction, alike)
            alike.finish()
            transaction.advance(projection.name, plan.positions)

    async def _catch_up(self, partitions: set[int], frames: Sequence[Frame]) -> None:
        """Apply from the log what is missing before these frames, and they themselves."""
        last = max(frame.last for frame in frames if frame.partition in partitions)
        found = await self._store.checkpoints()
        after = min(
            positions[partition]
            for positions in found.values()
            for partition in partitions
            if partition in positions
        )
        log.info("projection.gap_found", partitions=sorted(partitions), after=after, last=last)
        if await self._lines.head() < last:
            raise LogUnavailable(f"the log ends before position {last}")
        while after < last:
            lines = await self._lines.read_lines(after, CATCH_UP_LINES)
            end = lines[-1].position if lines else last
            await self._apply(frames_between(after, end, lines, partitions))
            after = end


def partitions_of(frames: Iterable[Frame]) -> list[int]:
    return sorted({frame.partition for frame in frames})


def planned(frames: Iterable[Frame], checkpoints: Mapping[int, int]) -> Plan:
    """What of these frames lies beyond the checkpoints. Raises `GapFound`."""
    plan = Plan()
    gaps = set()
    for frame in frames:
        reached = plan.positions.get(frame.partition, checkpoints.get(frame.partition))
        if reached is None or frame.last <= reached:
            continue
        if frame.previous > reached:
            gaps.add(frame.partition)
            continue
        if frame.previous == reached:
            plan.events += frame.events
            plan.unreadable += frame.unreadable
        else:
            plan.events += (e for e in frame.events if e.position > reached)
            plan.unreadable += (e for e in frame.unreadable if e.position > reached)
        plan.positions[frame.partition] = frame.last
    if gaps:
        raise GapFound(gaps)
    return plan


def set_aside(
    projection: Projection, plan: Plan, parked: set[str]
) -> tuple[list[Recorded], list[DeadLetter]]:
    """The events to fold now, and those that cannot be: unreadable, or behind one that could not.

    Adds to `parked` the keys of what cannot be read. Raises `FoldBroken`.
    """
    handles = projection.handles
    events = [recorded for recorded in plan.events if type(recorded.event) in handles]
    unreadable = [row for row in plan.unreadable if may_handle(projection, row)]
    if not parked and not unreadable:
        return events, []
    alike = Alike(projection.name)
    alike.succeeded(events)
    alike.unreadable(unreadable)
    free: list[Recorded] = []
    letters: list[DeadLetter] = []
    mixed: list[Recorded | Unreadable] = [*events, *unreadable]
    for one in sorted(mixed, key=lambda one: one.position):
        if isinstance(one, Unreadable):
            waiting = one.key in parked
            parked.add(one.key)
            letters.append(letter_of_unreadable(projection, one, waiting=waiting))
        elif parked and ordering_key(one.event) in parked:
            letters.append(letter_of(projection, one))
        else:
            free.append(one)
    return free, letters


def may_handle(projection: Projection, row: Unreadable) -> bool:
    """Whether the row is an event that the projection folds, as far as that can be told."""
    event_class = EVENT_CLASSES.get(row.tag)
    return event_class is None or event_class in projection.handles


def fold(projection: Projection, events: Sequence[Recorded]) -> list[tuple[int, Sequence[Change]]]:
    change = projection.fold
    return [(recorded.position, change(recorded)) for recorded in events]


async def write_apart(
    projection: Projection,
    events: Sequence[Recorded],
    transaction: TableTransaction,
    alike: Alike,
) -> None:
    """Write what can be written, halving what fails until the failing events stand alone.

    Raises `FoldBroken`.
    """
    parked = transaction.parked[projection.name]
    free = [recorded for recorded in events if ordering_key(recorded.event) not in parked]
    if len(free) < len(events):
        held = [recorded for recorded in events if ordering_key(recorded.event) in parked]
        await transaction.park([letter_of(projection, recorded) for recorded in held])
    if not free:
        return
    error = await attempt(projection, free, transaction)
    if error is None:
        alike.succeeded(free)
        return
    if len(free) > 1:
        middle = len(free) // 2
        await write_apart(projection, free[:middle], transaction, alike)
        await write_apart(projection, free[middle:], transaction, alike)
        return
    poison = free[0]
    alike.failed(stored_tag(poison), ordering_key(poison.event), error)
    parked.add(ordering_key(poison.event))
    log.error(
        "projection.event_parked",
        projection=projection.name,
        position=poison.position,
        stream=poison.stream,
        error=repr(error),
    )
    await transaction.park([letter_of(projection, poison, error)])


async def attempt(
    projection: Projection, events: Sequence[Recorded], transaction: TableTransaction
) -> Exception | None:
    try:
        folded = fold(projection, events)
    except Exception as error:
        # A fold may fail in any way; the event is set aside with what it raised.
        return error
    return await transaction.attempt(projection.name, folded)


def letter_of(
    projection: Projection, recorded: Recorded, error: Exception | None = None
) -> DeadLetter:
    """A letter for an event that failed, or that waits behind one that did."""
    return DeadLetter(
        projection=projection.name,
        key=ordering_key(recorded.event),
        partition=partition_of(recorded.event),
        position=recorded.position,
        stream=recorded.stream,
        version=recorded.version,
        tag=stored_tag(recorded),
        state=encode_state(recorded),
        status="waiting" if error is None else "parked",
        error="" if error is None else described(error),
        trace="" if error is None else "".join(traceback.format_exception(error)),
        attempts=0 if error is None else 1,
    )


def letter_of_unreadable(projection: Projection, row: Unreadable, *, waiting: bool) -> DeadLetter:
    return DeadLetter(
        projection=projection.name,
        key=row.key,
        partition=row.partition,
        position=row.position,
        stream=row.stream,
        version=row.version,
        tag=row.tag,
        state=row.state,
        status="waiting" if waiting else "parked",
        error=row.error,
        attempts=0 if waiting else 1,
    )


def described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


async def persist(act: Callable[[], Awaitable[Any]], patience_seconds: float) -> Any:
    """Act until the stores answer. Raises what they last said when patience has ended."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + patience_seconds
    pause = BACKOFF_SECONDS
    while True:
        try:
            return await act()
        except (StoreUnavailable, LogUnavailable) as error:
            if clock() + pause > deadline:
                raise
            log.warning("projection.waits_for_stores", error=str(error), pause_seconds=pause)
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(pause * 2, BACKOFF_SECONDS_MAX)
