"""Builds read tables again from the first event, beside those being served, and switches over.

A build is loaded in steps that leave rows and position together, so that one whose process was
killed is gone on with by the next. It is compared with what is served as of one position, and
served only if nothing differs, or where that was accepted.
"""

import asyncio
import contextlib
import gc
import inspect
import itertools
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from structlog.stdlib import get_logger

from infra.ports.frames import Frame
from infra.ports.keepers import (
    Build,
    CannotSwitch,
    CannotVerify,
    Progress,
    Rebuilt,
    Verified,
    Wishes,
)
from infra.ports.tables import TableStore
from infra.runtime.at_once import all_of
from infra.runtime.frames.embedded import EmbeddedRunner
from infra.runtime.frames.frames import LogLines, frames_between
from infra.runtime.frames.log_ranges import lines_between
from infra.runtime.projecting.project import FrameApplier, Projector
from infra.runtime.projecting.projection import Projection

LOAD_LINES = 20_000
CLOSE_ENOUGH = 2_000
"""From how few positions behind on the live tables are held still."""

RETIRE_SECONDS = 3.0
"""How long readers have to finish pages of the tables served before."""

LIVE_WAIT_SECONDS = 30.0
LOOK_SECONDS = 0.25
LAG_MAX = 2_000
GIVE_WAY_SECONDS = 5.0
"""How long one step waits at most for workers that are behind."""

GARBAGE_THRESHOLDS = 100_000, 20, 100

log = get_logger(__name__)


class Comparison(Protocol):
    """A build against the live one, which is held still at `positions` until `pin`."""

    positions: Mapping[int, int]

    async def pin(self) -> None:
        """Have both stay as they are now for `result`, and let the live one go on."""
        ...

    async def result(self) -> Verified: ...


class Builds(Protocol):
    """Where builds are made. Raises `StoreUnavailable`."""

    def alone(self, names: Collection[str]) -> AbstractAsyncContextManager[None]:
        """Keep other rebuilds of these away while inside. Raises `AlreadyRebuilding`."""
        ...

    async def builds_of(self, name: str) -> Sequence[Build]:
        """All builds of a projection, the one that was begun or retired last first."""
        ...

    async def start(
        self, projections: Sequence[Projection], codes: Mapping[str, str] | None = None
    ) -> dict[str, int]:
        """Make tables without indexes beside the live ones; answers their builds."""
        ...

    def loading(
        self, projections: Sequence[Projection], builds: Mapping[str, int]
    ) -> AbstractAsyncContextManager[TableStore]:
        """The tables of builds before they are completed."""
        ...

    async def complete(self, projections: Sequence[Projection], builds: Mapping[str, int]) -> None:
        """Make them fit to be read, and to be changed like live ones; they are `built` then."""
        ...

    def completed(
        self, projections: Sequence[Projection], builds: Mapping[str, int]
    ) -> AbstractAsyncContextManager[TableStore]:
        """The tables of builds after that."""
        ...

    async def live_positions(self, projections: Sequence[Projection]) -> Mapping[int, int]:
        """How far each partition of the live tables is at least; empty where nothing is live."""
        ...

    async def lag(self) -> int:
        """How many positions the furthest behind of all live tables is behind the log."""
        ...

    async def discarded(self, builds: Mapping[str, int]) -> Mapping[str, frozenset[int]]:
        """The events that an operator has given up, by projection: they are not to be applied."""
        ...

    def comparing(
        self, projection: Projection, build: int
    ) -> AbstractAsyncContextManager[Comparison]: ...

    def switching(
        self, projections: Sequence[Projection], builds: Mapping[str, int]
    ) -> AbstractAsyncContextManager[int]:
        """Hold the live tables still at the position answered; switch at the end of the block."""
        ...

    async def revive(self, name: str, build: int) -> None:
        """Make a retired build one that is `built`, as far as it was when it was retired."""
        ...

    async def drop_retired(self, names: Collection[str], keep_seconds: float) -> int:
        """Remove what was served before the last time, and that too once it is older than this;
        answers how many builds are gone."""
        ...


class Load(Protocol):
    async def __call__(
        self, projections: Sequence[Projection], made: Mapping[str, int], end: int | None
    ) -> int:
        """Fill and complete builds; answers the position it went on from. See `load`."""
        ...


def nothing_told(_what: str, _reached: int, _end: int) -> None:
    """For those who do not watch."""


class Rebuilder:
    """Rebuilds projections whose builds are made in one place.

    `keep_seconds`: so long the tables served before are kept, to be switched back to. `loads` does
    the part that takes long and holds nothing that is served, where that is not done right here.
    """

    def __init__(
        self,
        builds: Builds,
        lines: LogLines,
        progress: Progress = nothing_told,
        *,
        keep_seconds: float = 0.0,
        loads: Load | None = None,
    ) -> None:
        self._builds = builds
        self._lines = lines
        self._progress = progress
        self._keep_seconds = keep_seconds
        self._loads = loads or self._load

    async def rebuild(
        self,
        projections: Sequence[Projection],
        wishes: Wishes | None = None,
        *,
        compare: bool = False,
    ) -> list[Rebuilt]:
        """Load builds from the log, catch up with what is live, compare if asked to, and switch.

        What stops it leaves the live tables as they are, and builds to go on with. Raises
        `AlreadyRebuilding`, and `CannotVerify` where it cannot compare.
        """
        wishes = wishes or Wishes()
        async with self._builds.alone([projection.name for projection in projections]):
            begun = {} if wishes.anew else await unfinished(projections, self._builds)
            new = [projection for projection in projections if projection.name not in begun]
            made = {name: build.number for name, build in begun.items()}
            codes = {projection.name: code_of(projection) for projection in new}
            made |= await self._builds.start(new, codes)
            log.info("rebuild.started", builds=made, resumed=list(begun))
            loaded = {name for name, build in begun.items() if build.status == "built"}
            resumed_at = 0
            if loading := [one for one in projections if one.name not in loaded]:
                live = await self._builds.live_positions(projections) if compare else {}
                end = min(live.values(), default=None)
                resumed_at = await self._loads(loading, made, end)
            done = []
            for projection in projections:
                part = self._part(projection, made[projection.name])
                found = await part.compare() if compare else None
                switched = wishes.accept_different or found is None or is_same(found)
                if switched:
                    await part.switch(self._keep_seconds)
                done.append(
                    Rebuilt(
                        name=projection.name,
                        build=made[projection.name],
                        switched=switched,
                        found=found,
                        resumed_at=resumed_at if projection.name in begun else 0,
                    )
                )
            return done

    async def switch(self, projection: Projection, number: int | None) -> int:
        """Serve this build, or for None the one served before; answers which. Raises
        `CannotSwitch` and `AlreadyRebuilding`."""
        name = projection.name
        async with self._builds.alone([name]):
            build = chosen(projection, await self._builds.builds_of(name), number)
            if build.status == "retired":
                await self._builds.revive(name, build.number)
            await self._part(projection, build.number).switch(self._keep_seconds)
        return build.number

    async def _load(
        self, projections: Sequence[Projection], made: Mapping[str, int], end: int | None
    ) -> int:
        return await load(projections, made, self._builds, self._lines, self._progress, end=end)

    def _part(self, projection: Projection, build: int) -> "Finishing":
        return Finishing(projection, build, self._builds, self._lines, self._progress)


def is_same(found: Verified) -> bool:
    return found.comparable and not found.different


def chosen(projection: Projection, builds: Sequence[Build], number: int | None) -> Build:
    """The build of this number, or the one served before. Raises `CannotSwitch`."""
    name = projection.name
    wanted = [
        one
        for one in builds
        if one.number == number or (number is None and one.status == "retired")
    ]
    if not wanted and number is None:
        raise CannotSwitch(f"no build that {name} was served from before is kept")
    if not wanted:
        kept = ", ".join(f"{one.number} ({one.status})" for one in builds)
        raise CannotSwitch(f"{name} has no build {number}; there are {kept or 'none'}")
    build = wanted[0]
    if build.status == "live":
        raise CannotSwitch(f"build {build.number} of {name} is being served already")
    if build.status == "building":
        raise CannotSwitch(
            f"build {build.number} of {name} is not complete; rebuild goes on with it"
        )
    if build.version != projection.version:
        raise CannotSwitch(
            f"build {build.number} of {name} was made by version {build.version} of it, and this is"
            f" version {projection.version}: switch with the Plaza that has that version"
        )
    return build


async def unfinished(projections: Sequence[Projection], builds: Builds) -> dict[str, Build]:
    """Builds that were begun by this very code, and not served yet."""
    found = {}
    for projection in projections:
        code = code_of(projection)
        for build in await builds.builds_of(projection.name):
            same = (build.version, build.code) == (projection.version, code)
            if build.status in ("building", "built") and code and same:
                found[projection.name] = build
    return found


def code_of(projection: Projection) -> str:
    """Tells the code of a fold from any other, as far as its module goes; empty if it has none."""
    try:
        fold = projection.fold_texts or projection.fold
        source = inspect.getsourcefile(inspect.unwrap(fold))
        return (
            "" if source is None else blake2b(Path(source).read_bytes(), digest_size=8).hexdigest()
        )
    except (TypeError, OSError):
        return ""


async def load(  # noqa: PLR0913
    projections: Sequence[Projection],
    made: Mapping[str, int],
    builds: Builds,
    lines: LogLines,
    progress: Progress = nothing_told,
    *,
    end: int | None = None,
) -> int:
    """Fill builds with everything up to `end`, or the log's present one, and complete them.

    Answers the position it went on from.
    """
    end = await lines.head() if end is None else end
    discarded = await builds.discarded(made)
    give_way = GivingWay(builds.lag)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(rare_collections())
        targets: list[FrameApplier] = []
        for projection in projections:
            store = await stack.enter_async_context(builds.loading([projection], made))
            projector = Projector([projection], store, lines)
            targets.append(without(projector, discarded[projection.name]))
        target = SideBySide(targets)
        partitions = partitions_of(projections)
        checkpoints = await target.checkpoints()
        begun_at = after = min(checkpoints[partition] for partition in partitions)
        async with contextlib.aclosing(lines_between(lines, after, end + 1, LOAD_LINES)) as read:
            async for batch in read:
                last = batch[-1].position
                await target.apply(frames_between(after, last, batch, partitions))
                after = last
                progress("loading", after, end)
                await give_way()
        await target.apply(frames_between(after, max(after, end), (), partitions))
    await complete(projections, made, builds, progress)
    return begun_at


async def complete(
    projections: Sequence[Projection],
    made: Mapping[str, int],
    builds: Builds,
    progress: Progress,
) -> None:
    """Make all of these builds fit to be read, at the same time."""
    finished = itertools.count(1)

    async def build(projection: Projection) -> None:
        await builds.complete([projection], made)
        progress("indexing", next(finished), len(projections))

    progress("indexing", 0, len(projections))
    await all_of(build(one) for one in projections)


class Finishing:
    """What is done with one build that has been loaded: catch up, compare, switch."""

    def __init__(
        self,
        projection: Projection,
        build: int,
        builds: Builds,
        lines: LogLines,
        progress: Progress,
    ) -> None:
        self._projection = projection
        self._build = build
        self._builds = builds
        self._lines = lines
        self._progress = progress

    async def compare(self) -> Verified | None:
        """Bring the build to exactly where the live tables are, and compare; None where nothing is
        live. Raises `CannotVerify` if they do not get to where the build is already."""
        builds, projection = self._builds, self._projection
        async with self._target() as target:
            live = await self._reached(target)
            if not live:
                return None
            while max(live.values()) - min((await target.checkpoints()).values()) > CLOSE_ENOUGH:
                await bring_to(target, self._lines, live, partial(self._progress, "catching up"))
                live = await builds.live_positions([projection])
            async with builds.comparing(projection, self._build) as comparison:
                await bring_to(target, self._lines, comparison.positions)
                await comparison.pin()
                self._progress("comparing", 0, 1)
                found = await comparison.result()
                self._progress("comparing", 1, 1)
        return found

    async def switch(self, keep_seconds: float) -> None:
        """Catch up, and have everybody read this build at once."""
        builds, projection, made = (
            self._builds,
            self._projection,
            {self._projection.name: self._build},
        )
        async with self._target() as target:
            runner = EmbeddedRunner(self._lines, target, partitions_of([projection]))
            while True:
                head = await self._lines.head()
                if head - min((await target.checkpoints()).values()) <= CLOSE_ENOUGH:
                    break
                await runner.run_to(head, self._told("catching up", head))
            async with builds.switching([projection], made) as live_position:
                await runner.run_to(live_position)
        log.info("rebuild.switched", projection=projection.name, build=self._build)
        await asyncio.sleep(RETIRE_SECONDS)
        await builds.drop_retired([projection.name], keep_seconds)

    def _told(self, what: str, end: int) -> Callable[[int], None]:
        return lambda reached: self._progress(what, reached, end)

    @contextlib.asynccontextmanager
    async def _target(self) -> AsyncIterator[FrameApplier]:
        made = {self._projection.name: self._build}
        discarded = await self._builds.discarded(made)
        async with self._builds.completed([self._projection], made) as store:
            projector = Projector([self._projection], store, self._lines)
            yield without(projector, discarded[self._projection.name])

    async def _reached(self, target: FrameApplier) -> Mapping[int, int]:
        """Where the live tables are, once that is nowhere behind the build."""
        deadline = asyncio.get_running_loop().time() + LIVE_WAIT_SECONDS
        built = await target.checkpoints()
        while True:
            live = await self._builds.live_positions([self._projection])
            if all(live[partition] >= built[partition] for partition in live):
                return live
            if asyncio.get_running_loop().time() > deadline:
                raise CannotVerify(
                    f"what is served of {self._projection.name} stays behind the build, which is at"
                    f" {max(built.values())}: is a worker running?"
                )
            await asyncio.sleep(LOOK_SECONDS)


async def bring_to(
    target: FrameApplier,
    lines: LogLines,
    positions: Mapping[int, int],
    told: Callable[[int, int], None] = lambda _reached, _end: None,
) -> None:
    """Apply each partition up to exactly its position."""
    reached = await target.checkpoints()
    behind = {part: to for part, to in positions.items() if reached[part] < to}
    if not behind:
        return
    after, end = min(reached[partition] for partition in behind), max(behind.values())
    async with contextlib.aclosing(lines_between(lines, after, end + 1)) as read:
        async for batch in read:
            last = batch[-1].position
            frames = frames_between(after, last, batch, behind)
            await target.apply(cut_off(frames, behind))
            after = last
            told(after, end)
    await target.apply(cut_off(frames_between(after, max(after, end), (), behind), behind))


def cut_off(frames: Sequence[Frame], positions: Mapping[int, int]) -> list[Frame]:
    """Frames without what lies beyond their partition's position."""
    found = []
    for frame in frames:
        end = positions[frame.partition]
        if frame.last <= end:
            found.append(frame)
        elif frame.previous < end:
            events = [one for one in frame.events if one.position <= end]
            unreadable = [one for one in frame.unreadable if one.position <= end]
            part, previous, first = frame.partition, frame.previous, frame.first
            found.append(Frame(part, previous, first, end, events, unreadable))
    return found


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Folding makes many small objects and no cycles: looking for those costs a fifth."""
    before = gc.get_threshold()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class GivingWay:
    """Waits between steps while workers fall behind, so that what is served stays fresh.

    It does not wait for workers that are not getting on at all: then there is nobody to give way
    to.
    """

    def __init__(self, lag: Callable[[], Awaitable[int]]) -> None:
        self._lag = lag
        self._looked_at = 0.0
        self._stuck_at = 0

    async def __call__(self) -> None:
        clock = asyncio.get_running_loop().time
        if clock() < self._looked_at + LOOK_SECONDS:
            return
        deadline = clock() + GIVE_WAY_SECONDS
        lag = await self._lag()
        while LAG_MAX < lag != self._stuck_at and clock() < deadline:
            await asyncio.sleep(LOOK_SECONDS)
            before, lag = lag, await self._lag()
            if lag >= before + LAG_MAX:
                log.info("rebuild.gives_way", lag=lag)
            elif lag == before:
                self._stuck_at = lag
        self._looked_at = clock()


class SideBySide:
    """Appliers that are handed the same frames at once: while one waits for its store, another
    folds. Each keeps a transaction of its own."""

    def __init__(self, appliers: Sequence[FrameApplier]) -> None:
        self._appliers = appliers

    async def checkpoints(self) -> Mapping[int, int]:
        found = await asyncio.gather(*(one.checkpoints() for one in self._appliers))
        return {
            part: min(one[part] for one in found if part in one) for one in found for part in one
        }

    async def apply(self, frames: Sequence[Frame]) -> None:
        await all_of(one.apply(frames) for one in self._appliers)


def without(applier: FrameApplier, positions: frozenset[int]) -> FrameApplier:
    """The same applier, not handed the events at these positions."""
    return Without(applier, positions) if positions else applier


class Without:
    """`FrameApplier` for events that were given up: they are passed over."""

    def __init__(self, applier: FrameApplier, positions: frozenset[int]) -> None:
        self._applier = applier
        self._positions = positions
        self.checkpoints = applier.checkpoints

    @property
    def name(self) -> str:
        return self._applier.name

    async def apply(self, frames: Sequence[Frame]) -> None:
        await self._applier.apply([self._passed_over(frame) for frame in frames])

    def _passed_over(self, frame: Frame) -> Frame:
        events = [one for one in frame.events if one.position not in self._positions]
        unreadable = [one for one in frame.unreadable if one.position not in self._positions]
        part, previous, first, last = frame.partition, frame.previous, frame.first, frame.last
        return Frame(part, previous, first, last, events, unreadable)


def partitions_of(projections: Sequence[Projection]) -> Sequence[int]:
    return sorted({p for projection in projections for p in projection.partitions})
