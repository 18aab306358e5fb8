"""Keeps a search index current: frames say which documents changed, the read tables what they say.

Frames are only noted, so the search server holds up nothing else. What is noted is worked off in
rounds: a document changed ten times in one is read and written once, as it stands when it is read,
under a version that rises with what the tables have folded. So neither repeats nor late frames take
it back, and where frames were dropped or never came the log says what they held. How far the index
is stands in the search server, and is stored after what it covers.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CollectorRegistry
from structlog.stdlib import get_logger

from domain.shared.identifiers import known_id_number
from infra.measures import FRESHNESS_SECONDS, Counts, Gauges, Histogram
from infra.ports.frames import Frame, partition_of
from infra.ports.log import LogUnavailable, Recorded
from infra.ports.search import (
    DocumentSource,
    IndexLost,
    Read,
    SearchProjection,
    SearchStore,
    SearchUnavailable,
    SetAside,
    Touched,
    Write,
)
from infra.ports.tables import StoreUnavailable
from infra.runtime.frames.frames import LogLines, frames_between
from infra.runtime.indexing.search_filling import Filling, writes_of
from infra.runtime.projecting.project import GapFound, planned

log = get_logger(__name__)

SLICE_EVENTS = 5_000
EVENTS_NOTED_MAX = 20_000
FRAMES_NOTED_MAX = 20_000
"""What is noted beyond this is forgotten, and taken from the log when its turn comes."""

DOCUMENTS_AT_ONCE = 1_000
"""A server that takes fewer at a time merges them afterwards, which costs it as much again."""

CHANGED_MAX = 50_000
"""When so many documents wait, they are written whatever they wait for; of no more is known what
they show."""

TABLES_SECONDS = 30.0
POLL_SECONDS = 0.02
FAILED = (SearchUnavailable, StoreUnavailable, LogUnavailable, IndexLost)


@dataclass(frozen=True)
class Pace:
    """`round_seconds` from one round to the next at least, and half of the time while that is less
    than `rest_seconds_max`; every `look_seconds` the server is asked whether it has the build.

    Numbers that change often are written once in `window_seconds`. While events keep coming, they
    are left alone `number_rests` times as long as writing them took, so that an import changes most
    of them many times before they are written.
    """

    round_seconds: float = 0.2
    window_seconds: float = 1.0
    look_seconds: float = 2.0
    pause_seconds: float = 0.5
    pause_seconds_max: float = 5.0
    rest_seconds_max: float = 1.0
    number_rests: float = 2.0


@dataclass
class _Changed:
    """A document that is to be written: when, for which events, and the newest of them.

    `numbers`: nothing but those has changed.
    """

    due: float
    numbers: bool
    newest: Recorded
    oldest_at: datetime
    firsts: dict[int, int] = field(default_factory=dict)


CaughtUp = Callable[[str, Mapping[int, int]], None]
"""Told which index shows everything up to which position of each partition."""


def nobody_told(_index: str, _positions: Mapping[int, int]) -> None:
    return None


class SearchMetrics:
    """How far search is behind, and what is done for it; shared by the indices of one worker."""

    def __init__(
        self,
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.time,
        caught_up: CaughtUp = nobody_told,
    ) -> None:
        self._clock = clock
        self.caught_up = caught_up
        self._followed: dict[str, SearchIndexing] = {}
        Gauges(
            "plaza_search_indexing_delay_seconds",
            "Age of the oldest event that searches do not show yet; 0 when there is none",
            ["index"],
            registry,
            lambda: {(name,): one.delay(clock()) for name, one in self._followed.items()},
        )
        Gauges(
            "plaza_search_fill_ratio",
            "How much of all documents can be found; 1 when all can",
            ["index"],
            registry,
            lambda: {(name,): one.filled for name, one in self._followed.items()},
        )
        self.searchable = Histogram(
            "plaza_search_written_seconds",
            "Time from an event's record to its document's being in the index; of numbers, which"
            " wait for quiet, it is not measured",
            ["index"],
            registry,
            FRESHNESS_SECONDS,
        )
        self.documents = Counts(
            "plaza_search_documents_total",
            "Documents sent to the search server, by what became of them",
            ["index", "outcome"],
            registry,
        )

    def follow(self, indexing: "SearchIndexing") -> None:
        self._followed[indexing.name] = indexing

    def written(self, index: str, changed: Iterable[_Changed], refused: int) -> None:
        now = self._clock()
        observe = self.searchable.times(index).observe
        count = 0
        for one in changed:
            if not one.numbers:
                observe(now - one.oldest_at.timestamp())
            count += 1
        self.documents.add(count - refused, index, "written")
        self.documents.add(refused, index, "refused")


class SearchIndexing:
    """A `FrameApplier` that keeps one index; `run` does the work."""

    def __init__(  # noqa: PLR0913
        self,
        projection: SearchProjection,
        store: SearchStore,
        source: DocumentSource,
        lines: LogLines,
        filling: Filling,
        *,
        set_aside: SetAside,
        metrics: SearchMetrics,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._projection = projection
        self._store = store
        self._source = source
        self._lines = lines
        self._set_aside = set_aside
        self._filling = filling
        self._metrics = metrics
        self._pace = pace or Pace()
        self._clock = clock
        self._frames: deque[Frame] = deque()
        self._noted = 0
        self._targets: dict[int, int] = {}
        self._reached: dict[int, int] = {}
        self._stored: dict[int, int] = {}
        self._changed: dict[int, _Changed] = {}
        self._authors: dict[int, _Changed] = {}
        self._shown: dict[int, Mapping[int, int]] = {}
        self._build = 0
        self._parked: set[str] = set()
        self._waiting_since: float | None = None
        self._woken = asyncio.Event()
        self._looked_at = 0.0
        self._wrote_at = 0.0
        self._numbers_from = 0.0
        self._filler: asyncio.Task[None] | None = None
        self.filled = 0.0
        metrics.follow(self)

    @property
    def name(self) -> str:
        return self._projection.name

    # What a runner calls.

    async def checkpoints(self) -> Mapping[int, int]:
        """Where the tables are, so that no runner starts earlier for the sake of an index: what
        that lacks is taken from the log."""
        return await self._source.checkpoints()

    async def apply(self, frames: Sequence[Frame]) -> None:
        """See `FrameApplier.apply`. Only notes them; never raises."""
        for frame in frames:
            if frame.partition not in self._projection.partitions:
                continue
            self._targets[frame.partition] = max(frame.last, self._targets.get(frame.partition, 0))
            self._frames.append(frame)
            self._noted += len(frame.events)
            if self._waiting_since is None:
                self._waiting_since = self._first_moment([frame])
        while self._noted > EVENTS_NOTED_MAX or len(self._frames) > FRAMES_NOTED_MAX:
            self._noted -= len(self._frames.popleft().events)
        if self._frames:
            self._woken.set()

    def put_off(self) -> Collection[int]:
        """The partitions in which something noted does not show yet."""
        return [p for p, target in self._targets.items() if self._stored.get(p, 0) < target]

    def shows(self, position: int) -> bool:
        """Whether everything up to a position can be found, as far as this process knows."""
        return bool(self._build) and all(
            self._stored.get(partition, 0) >= position for partition in self._projection.partitions
        )

    def delay(self, now: float) -> float:
        """The age of the oldest event that does not show yet."""
        return 0.0 if self._waiting_since is None else max(0.0, now - self._waiting_since)

    async def run(self) -> None:
        """Until cancelled. Outlives the search server, the tables and the log being away."""
        pause = self._pace.pause_seconds
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await self._open(group)
                    while True:
                        await self._round(group)
                        pause = self._pace.pause_seconds
                except FAILED as error:
                    log.warning("search.behind", index=self.name, error=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._pace.pause_seconds_max)

    async def bring(self, build: int) -> None:
        """Bring a build that nobody else writes to where the tables are.

        Raises `SearchUnavailable`, `StoreUnavailable`, `LogUnavailable` and `IndexLost`.
        """
        await self._go_on(build)
        while frames := self._taken():
            await self._note(frames)
        await self._write_all()
        await self._store_progress()

    # Builds.

    async def _open(self, group: asyncio.TaskGroup) -> None:
        """Find the build to write, and where it is; have one made where there is none."""
        self._build = 0
        while not self._build:
            await self._look(group)
            if not self._build:
                await asyncio.sleep(self._pace.pause_seconds)

    async def _look(self, group: asyncio.TaskGroup) -> None:
        """See whether the server still has our build, or wants another one written."""
        self._looked_at = self._clock()
        target = await self._filling.target()
        if target is None or target.status == "filling":
            if self._filler is None or self._filler.done():
                self._filler = group.create_task(self._fill())
            self.filled = 0.0 if target is None else target.done / max(target.total, 1)
        else:
            self.filled = 1.0
            if self._store.worn(target.done) and (self._filler is None or self._filler.done()):
                self._filler = group.create_task(self._fill(renew=target.number))
        if target is None:
            self._build = 0
            return
        if target.number != self._build:
            await self._go_on(target.number)

    async def _go_on(self, build: int) -> None:
        """Go on from where a build is; what frames held before that is looked up in the log."""
        positions = await self._store.positions(build)
        if max(positions.values()) > await self._lines.head():
            # The log lost its end since: the index shows what never happened.
            await self._store.drop(build)
            raise IndexLost(f"{self.name} was beyond the log, at {max(positions.values())}")
        self._stored = dict(positions)
        self._reached = dict(positions)
        self._changed.clear()
        self._authors.clear()
        self._shown.clear()
        await self._set_aside.keep_only([one.number for one in await self._store.builds()])
        self._parked = set(await self._set_aside.parked(build))
        self._build = build
        for partition, position in (await self._source.checkpoints()).items():
            self._targets[partition] = max(position, self._targets.get(partition, 0))
        log.info("search.follows", index=self.name, build=build, after=min(positions.values()))

    async def _fill(self, renew: int = 0) -> None:
        try:
            if renew:
                await self._filling.renew(renew)
            else:
                await self._filling.fill()
        except FAILED as error:
            log.warning("search.filling_stopped", index=self.name, error=str(error))

    # Rounds.

    async def _round(self, group: asyncio.TaskGroup) -> None:
        if self._clock() >= self._looked_at + self._pace.look_seconds:
            await self._look(group)
            if not self._build:
                raise IndexLost(f"the search server has no {self.name} any more")
        began = self._clock()
        frames = self._taken()
        if not frames:
            # Nothing goes on changing the numbers that wait.
            self._numbers_from = 0.0
        await self._note(frames)
        await self._write_due()
        await self._store_progress()
        self._waiting_since = self._oldest_moment()
        await self._rest(began)

    async def _rest(self, began: float) -> None:
        """Until there is something to do, but not before the round's time is over."""
        took = self._clock() - began
        least = self._pace.round_seconds - took
        await asyncio.sleep(max(0.0, least, min(took, self._pace.rest_seconds_max)))
        if self._frames:
            return
        due = min((one.due for one in self._changed.values()), default=float("inf"))
        seconds = min(due, self._looked_at + self._pace.look_seconds) - self._clock()
        self._woken.clear()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._woken.wait()
        except TimeoutError:
            pass

    def _taken(self) -> list[Frame]:
        """All frames that wait, and a watermark for every partition that has to get further."""
        frames = sorted(self._frames, key=lambda frame: (frame.partition, frame.first, frame.last))
        self._frames.clear()
        self._noted = 0
        got = {frame.partition: frame.last for frame in frames}
        for partition, target in self._targets.items():
            reached = max(got.get(partition, 0), self._reached.get(partition, 0))
            if reached < target:
                frames.append(Frame(partition, target, target + 1, target))
        return frames

    async def _note(self, frames: Sequence[Frame]) -> None:
        """Note which documents these frames change."""
        try:
            plan = planned(frames, self._reached)
        except GapFound as gap:
            await self._catch_up(gap.partitions, frames)
            plan = planned(frames, self._reached)
        for recorded in plan.events:
            if type(recorded.event) in self._projection.handles:
                self._touch(recorded)
        self._reached.update(plan.positions)

    def _touch(self, recorded: Recorded) -> None:
        touched: Touched = self._projection.touch(recorded)
        now = self._clock()
        for one in touched.now:
            self._change(self._changed, one, now, recorded)
        for one in touched.later:
            due = now + self._pace.window_seconds
            self._change(self._changed, one, due, recorded, numbers=True)
        if touched.author is not None:
            self._change(self._authors, touched.author, now, recorded)
        if touched.erased:
            self._source.forget(touched.erased)

    def _change(
        self,
        kept: dict[int, _Changed],
        one: int,
        due: float,
        recorded: Recorded,
        *,
        numbers: bool = False,
    ) -> None:
        partition = partition_of(recorded.event)
        shown = self._shown.get(one) if kept is self._changed else None
        if shown is not None and recorded.position <= shown[partition]:
            # It was read after this had happened.
            return
        changed = kept.get(one)
        if changed is None:
            changed = kept[one] = _Changed(due, numbers, recorded, recorded.recorded_at)
        changed.due = min(changed.due, due)
        changed.numbers &= numbers
        changed.newest = recorded
        changed.firsts.setdefault(partition, recorded.position)

    async def _catch_up(self, partitions: set[int], frames: Sequence[Frame]) -> None:
        """Take from the log what no frame brought, slice by slice, and write each."""
        last = max(frame.last for frame in frames if frame.partition in partitions)
        after = min(self._reached[partition] for partition in partitions)
        log.info("search.gap_found", index=self.name, after=after, last=last)
        if await self._lines.head() < last:
            raise LogUnavailable(f"the log ends before position {last}")
        while after < last:
            lines = await self._lines.read_lines(after, SLICE_EVENTS)
            end = min(lines[-1].position, last) if lines else last
            kept = [line for line in lines if line.position <= end]
            missed = frames_between(after, end, kept, partitions)
            self._waiting_since = self._first_moment(missed) or self._waiting_since
            await self._note(missed)
            # Everything waits for its time here too: a long run of events changes it often.
            if self._clock() >= self._wrote_at + self._pace.window_seconds or self._is_full():
                await self._write_due()
                await self._store_progress()
            after = end

    # Writing.

    async def _write_due(self) -> None:
        """Write the documents whose time has come."""
        now = self._clock()
        if self._is_full():
            await self._write_all()
            return
        numbers_too = now >= self._numbers_from
        await self._write_these(
            {
                one: changed
                for one, changed in self._changed.items()
                if changed.due <= now and (numbers_too or not changed.numbers)
            }
        )

    async def _write_all(self) -> None:
        await self._write_these(dict(self._changed))

    async def _write_these(self, due: Mapping[int, _Changed]) -> None:
        for author, changed in list(self._authors.items()):
            # Until the tables have the erasure they do not show it.
            await self._read(())
            async for ids in self._source.of_author(author):
                await self._write(dict.fromkeys(ids, changed))
            del self._authors[author]
        began = self._clock()
        await self._write(due)
        for one in due:
            del self._changed[one]
        self._wrote_at = self._clock()
        if any(changed.numbers for changed in due.values()):
            took = self._wrote_at - began
            self._numbers_from = self._wrote_at + took * self._pace.number_rests

    def _is_full(self) -> bool:
        return len(self._changed) > CHANGED_MAX

    async def _write(self, changed: Mapping[int, _Changed]) -> None:
        """Write these documents; some are being made while others are under way to the server."""
        ids = list(changed)
        sending: asyncio.Task[None] | None = None
        try:
            for start in range(0, len(ids), DOCUMENTS_AT_ONCE):
                part = {one: changed[one] for one in ids[start : start + DOCUMENTS_AT_ONCE]}
                read = await self._read(part)
                writes = writes_of(read.documents, read.version)
                if sending is not None:
                    await sending
                sending = asyncio.create_task(self._send(part, writes, read.checkpoints))
            if sending is not None:
                await sending
        finally:
            if sending is not None:
                sending.cancel()

    async def _send(
        self,
        changed: Mapping[int, _Changed],
        writes: Sequence[Write],
        checkpoints: Mapping[int, int],
    ) -> None:
        refused = await self._store.write(self._build, writes)
        events = {one.id: changed[known_id_number(one.id)].newest for one in writes}
        never = {one.id: (one.error, events[one.id]) for one in refused}
        if never:
            log.error("search.documents_parked", index=self.name, ids=sorted(never))
            await self._set_aside.park(self._build, never)
        taken = events.keys() - never.keys()
        if settled := self._parked & taken:
            await self._set_aside.settle(self._build, settled)
        self._parked = (self._parked - settled) | never.keys()
        behind = any(checkpoints[p] > reached for p, reached in self._reached.items())
        if not behind or len(self._shown) > CHANGED_MAX:
            self._shown.clear()
        self._shown.update((known_id_number(key), checkpoints) for key in taken)
        self._metrics.written(self.name, changed.values(), len(never))

    async def _read(self, ids: Collection[int]) -> Read:
        """The documents, once the tables have folded what these are to show."""
        deadline = self._clock() + TABLES_SECONDS
        while True:
            read = await self._source.read(ids)
            at = read.checkpoints
            behind = [p for p, position in self._reached.items() if at.get(p, 0) < position]
            if not behind:
                return read
            if self._clock() > deadline:
                raise StoreUnavailable(f"the tables of partitions {behind} are behind")
            await asyncio.sleep(POLL_SECONDS)

    async def _store_progress(self) -> None:
        """Everything before the first change that waits shows."""
        covered = dict(self._reached)
        for changed in (*self._changed.values(), *self._authors.values()):
            for partition, position in changed.firsts.items():
                covered[partition] = min(covered[partition], position - 1)
        moved = {p: at for p, at in covered.items() if at > self._stored.get(p, 0)}
        if moved:
            await self._store.advance(self._build, moved)
            self._stored.update(moved)
            self._metrics.caught_up(self.name, moved)

    def _oldest_moment(self) -> float | None:
        """When the first of what does not show yet was recorded."""
        waiting = (*self._changed.values(), *self._authors.values())
        moments = [one.oldest_at.timestamp() for one in waiting]
        first = self._first_moment(self._frames)
        return min(moments if first is None else [*moments, first], default=None)

    def _first_moment(self, frames: Iterable[Frame]) -> float | None:
        handles = self._projection.handles
        return next(
            (
                one.recorded_at.timestamp()
                for frame in frames
                for one in frame.events
                if type(one.event) in handles
            ),
            None,
        )


@asynccontextmanager
async def running(indexing: Sequence[SearchIndexing]) -> AsyncIterator[None]:
    """Have these work meanwhile."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.run()) for one in indexing]
        yield
        for task in tasks:
            task.cancel()
