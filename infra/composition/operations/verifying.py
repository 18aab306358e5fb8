"""Folding the log again, comparing with what is served, and mending what differs, assembled."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import assert_never

from msgspec.structs import replace

from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.adapters.tables.refolded_tables import RefoldedTables, refolded
from infra.composition.settings import Settings
from infra.formats.codec import decode_lines
from infra.ports.frames import partition_of
from infra.ports.keepers import EXAMPLES_MAX, CannotVerify, NotServed, Progress, Verified
from infra.ports.log import Recorded
from infra.ports.tables import Add, Blank, Change, Close, Folded, Forget, Insert, Part, Revise
from infra.runtime.at_once import all_of
from infra.runtime.frames.log_ranges import lines_between
from infra.runtime.projecting.projection import Projection
from infra.runtime.rebuilding.rebuild import LOAD_LINES, nothing_told, rare_collections

PACED_LINES = 500
COMPARED_AT_ONCE = 2

Pace = Callable[[], Awaitable[None]]


async def verify(  # noqa: PLR0913
    settings: Settings,
    projection: Projection,
    progress: Progress = nothing_told,
    *,
    repair: bool = False,
    part: Part | None = None,
    pace: Pace | None = None,
) -> Verified:
    """Compare every row that is served with the row that the log gives, and mend what differs;
    of a `part`, only its rows. `pace` is awaited before each step.

    What is served is taken at once, with the positions it was at; workers go on meanwhile. Raises
    `CannotVerify`, `StoreUnavailable` and `LogUnavailable`.
    """
    async with opened(settings, [projection], part, pace) as refolding:
        found = (await refolding.verify(progress, repair=repair))[projection.name]
    if isinstance(found, CannotVerify):
        raise found
    return found


async def verify_together(
    settings: Settings,
    projections: Sequence[Projection],
    progress: Progress = nothing_told,
    *,
    repair: bool = False,
) -> dict[str, Verified | CannotVerify]:
    """The same for several projections in one pass over the log. One that cannot be verified does
    not keep the others from it."""
    async with opened(settings, projections) as refolding:
        return await refolding.verify(progress, repair=repair)


async def remake(
    settings: Settings, projection: Projection, part: Part, progress: Progress = nothing_told
) -> int:
    """Write the rows of a part as the log gives them; answers how many there are.

    Raises as `verify` does.
    """
    async with opened(settings, [projection], part) as refolding:
        return await refolding.remake(progress)


class Refolding:
    """Projections folded from the log into tables of their own, beside what is served of them."""

    def __init__(
        self, log: PostgresEventLog, foldings: Sequence["Folding"], pace: Pace | None
    ) -> None:
        self._log = log
        self._foldings = foldings
        self._pace = pace

    async def verify(
        self, progress: Progress, *, repair: bool
    ) -> dict[str, Verified | CannotVerify]:
        foldings = self._foldings
        await all_of(folding.begin() for folding in foldings)
        # The log is read while what is served is still being copied.
        await all_of([self._fold(foldings, progress), *(folding.copy() for folding in foldings)])
        at_once = asyncio.Semaphore(COMPARED_AT_ONCE)
        found = await all_of(folding.compare(at_once) for folding in foldings)
        return {
            folding.projection.name: await self._mended(folding, one)
            if repair and isinstance(one, Verified) and one.different
            else one
            for folding, one in zip(foldings, found, strict=True)
        }

    async def remake(self, progress: Progress) -> int:
        (folding,) = self._foldings
        await folding.begin()
        await folding.leave()
        await self._fold([folding], progress)
        folding.raise_problem()
        async with self._up_to_date(folding):
            return await folding.tables.replace()

    async def _mended(self, folding: "Folding", found: Verified) -> Verified | CannotVerify:
        try:
            async with self._up_to_date(folding):
                await folding.tables.mend()
        except CannotVerify as problem:
            return problem
        return replace(found, repaired=found.different)

    @contextlib.asynccontextmanager
    async def _up_to_date(self, folding: "Folding") -> AsyncIterator[None]:
        """Hold what is served still, and fold what has been applied to it meanwhile."""
        async with folding.tables.mending():
            # Nobody is waited for while the tables are held.
            self._pace = None
            await self._fold([folding], nothing_told)
            folding.raise_problem()
            yield

    async def _fold(self, foldings: Sequence["Folding"], progress: Progress) -> None:
        """Fold each partition up to where it is in what is served."""
        bounds = [folding.aim() for folding in foldings]
        after, end = min(start for start, _ in bounds), max(end for _, end in bounds)
        at_once = LOAD_LINES if self._pace is None else PACED_LINES
        async with contextlib.aclosing(lines_between(self._log, after, end + 1, at_once)) as read:
            async for lines in read:
                if self._pace is not None:
                    await self._pace()
                # Rows that cannot be read are set aside by the workers, too.
                events, _ = decode_lines(lines)
                await all_of(folding.take(events) for folding in foldings)
                progress("folding", lines[-1].position, end)


class Folding:
    """One projection, folded as far as what is served of it."""

    def __init__(self, projection: Projection, tables: RefoldedTables, part: Part | None) -> None:
        self.projection = projection
        self.tables = tables
        self._part = part
        self._problem: CannotVerify | None = None
        self._ready = asyncio.Event()
        self._begun: Mapping[int, int] = {}
        self._reached: Mapping[int, int] = dict.fromkeys(projection.partitions, 0)
        self._not_applied: frozenset[int] = frozenset()

    async def begin(self) -> None:
        name, version = self.projection.name, self.projection.version
        try:
            await self.tables.begin()
        except NotServed as problem:
            self._problem = problem
        else:
            if self.tables.version != version:
                self._problem = CannotVerify(
                    f"{name} is served in version {self.tables.version}; this is version {version}"
                )

    async def copy(self) -> None:
        """Copy what is served, where that can be verified."""
        if self._problem is None:
            await self.tables.copy()
        else:
            await self.tables.leave()
        self._ready.set()

    async def leave(self) -> None:
        """Leave what is served uncopied."""
        await self.tables.leave()
        self._ready.set()

    def aim(self) -> tuple[int, int]:
        """Take note of where to fold to; answers after which position, and up to which."""
        if self._not_applied - self.tables.not_applied:
            self._problem = CannotVerify(
                "events that were set aside have been applied meanwhile; try again"
            )
        self._begun, self._reached = self._reached, self.tables.checkpoints
        self._not_applied = self.tables.not_applied
        return min(self._begun.values(), default=0), max(self._reached.values(), default=0)

    async def take(self, events: Sequence[Recorded]) -> None:
        """Fold those of these events that have been applied to what is served."""
        wanted = [] if self._problem is not None else self._wanted(events)
        if not wanted:
            return
        await self.projection.prepare(wanted)
        try:
            changes = self._changes(wanted)
            await self._ready.wait()
            await self.tables.write(changes)
        except CannotVerify as problem:
            self._problem = problem

    async def compare(self, at_once: asyncio.Semaphore) -> Verified | CannotVerify:
        if self._problem is not None:
            return self._problem
        tables = self.tables
        async with at_once:
            await tables.settle()
            documents, different, examples = await tables.compare()
        return Verified(
            name=self.projection.name,
            documents=documents,
            different=different,
            examples=examples[:EXAMPLES_MAX],
            build=tables.build,
            version=tables.version,
            position=min(tables.checkpoints.values(), default=0),
            set_aside=len(tables.not_applied),
        )

    def raise_problem(self) -> None:
        if self._problem is not None:
            raise self._problem

    def _wanted(self, events: Sequence[Recorded]) -> Sequence[Recorded]:
        handles, begun, reached = self.projection.handles, self._begun, self._reached
        wanted = [recorded for recorded in events if type(recorded.event) in handles]
        if not wanted:
            return wanted
        if self._not_applied:
            wanted = [one for one in wanted if one.position not in self._not_applied]
        # Where partitions are not equally far, each event is asked for its own.
        if events[0].position <= max(begun.values()) or events[-1].position > min(reached.values()):
            wanted = [
                one
                for one in wanted
                if begun.get(part := partition_of(one.event), 0)
                < one.position
                <= reached.get(part, 0)
            ]
        return wanted

    def _changes(self, events: Sequence[Recorded]) -> Folded:
        projection, part = self.projection, self._part
        folded = []
        for recorded in events:
            try:
                changes = projection.fold(recorded)
            except Exception as problem:
                # Whatever a fold raises, an event that the workers have applied cannot be folded.
                raise CannotVerify(
                    f"{projection.name} cannot fold the event at {recorded.position}"
                    f" ({recorded.stream}) any more: {problem!r}"
                ) from problem
            if part is not None:
                changes = [change for change in changes if is_of(change, part)]
            folded.append((recorded.position, changes))
        return folded


def is_of(change: Change, part: Part) -> bool:
    """Whether it may be to a row of this part."""
    if isinstance(change, Forget):
        return change.table.name in part.columns
    columns = part.columns.get(change.table.name, ())
    return any(part.holds(value_of(change, column)) for column in columns)


def value_of(change: Insert | Add | Close | Revise | Blank, column: str) -> int:
    """What a change says of a column that every change to a row of its table names."""
    value: int
    match change:
        case Insert():
            value = change.row[[one.name for one in change.table.columns].index(column)]
        case Add():
            value = change.key
        case Close() | Revise() | Blank():
            value = change.key[change.table.key.index(column)]
        case _:
            assert_never(change)
    return value


@contextlib.asynccontextmanager
async def opened(
    settings: Settings,
    projections: Sequence[Projection],
    part: Part | None = None,
    pace: Pace | None = None,
) -> AsyncIterator[Refolding]:
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(rare_collections())
        log = await PostgresEventLog.open(settings.postgres_url)
        stack.push_async_callback(log.close)
        keyring = await PostgresKeyring.connect(settings.postgres_url)
        stack.push_async_callback(keyring.close)
        foldings = []
        for projection in projections:
            making = refolded(settings.postgres_url, projection, part)
            tables = await stack.enter_async_context(making)
            foldings.append(Folding(projection.with_texts(keyring), tables, part))
        yield Refolding(log, foldings, pace)
