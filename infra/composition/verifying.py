"""Folding the log again, comparing with what is served, and mending what differs, assembled."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import assert_never

from infra.adapters.event_log import PostgresEventLog
from infra.adapters.keyring import PostgresKeyring
from infra.adapters.served_tables import pinned
from infra.adapters.sqlite_tables import SqliteTables
from infra.adapters.table_mending import Mending, mending
from infra.codec import decode_lines, partition_of
from infra.composition.settings import Settings
from infra.keepers import (
    EXAMPLES_MAX,
    CannotVerify,
    Different,
    NotServed,
    Progress,
    Verified,
)
from infra.ports import Recorded
from infra.runtime.log_ranges import LINES_AT_ONCE, lines_between
from infra.runtime.projection import Projection
from infra.runtime.rebuild import nothing_told, rare_collections
from infra.tables import Add, AnyTable, Blank, Change, Close, Forget, Insert, Part, Revise

PACED_LINES = 500
REPAIR_MAX = 10_000
"""How many rows are mended one by one; where more differ, a rebuild is what is needed."""

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
    tables = tables_of(projection, part)
    async with opened(settings, projection, part, pace) as folding:
        async with pinned(settings.postgres_url, projection) as served:
            if served is None:
                raise NotServed(f"nothing is served of {projection.name}")
            if served.version != projection.version:
                raise CannotVerify(
                    f"{projection.name} is served in version {served.version}; this is version"
                    f" {projection.version}"
                )
            for table in tables:
                async with contextlib.aclosing(served.rows(table, part)) as batches:
                    async for rows in batches:
                        await asyncio.to_thread(folding.tables.serve, table, rows)
        await folding.fold(served.checkpoints, served.not_applied, progress)
        compared = [
            await asyncio.to_thread(folding.tables.compare, table, EXAMPLES_MAX) for table in tables
        ]
        different = sum(table.different for table in compared)
        if repair and different > REPAIR_MAX:
            raise CannotVerify(
                f"{different:,} rows of {projection.name} differ: more than {REPAIR_MAX:,} are not"
                " mended one by one; rebuild it"
            )
        if repair and different:
            await mend(settings, projection, folding, tables)
    examples = [
        Different(place=one.table, computed=one.folded, served=one.served)
        for table in compared
        for one in table.examples
    ]
    return Verified(
        name=projection.name,
        documents=sum(table.documents for table in compared),
        different=different,
        examples=examples[:EXAMPLES_MAX],
        build=served.build,
        version=served.version,
        position=min(served.checkpoints.values(), default=0),
        set_aside=len(served.not_applied),
        repaired=different if repair else 0,
    )


async def mend(
    settings: Settings, projection: Projection, folding: "Folding", tables: Sequence[AnyTable]
) -> None:
    """Write the rows that differ as the log gives them now, while the tables are held still."""
    keys = {table.name: folding.tables.differing(table) for table in tables}
    async with mending(settings.postgres_url, projection) as live:
        if live is None:
            raise NotServed(f"nothing is served of {projection.name}")
        await folding.fold_on(live)
        for table in tables:
            if of_table := keys[table.name]:
                rows = folding.tables.under(table, of_table)
                await live.replace(table, of_table, rows)


async def remake(
    settings: Settings, projection: Projection, part: Part, progress: Progress = nothing_told
) -> int:
    """Write the rows of a part as the log gives them; answers how many there are.

    Raises as `verify` does.
    """
    async with opened(settings, projection, part) as folding:
        async with pinned(settings.postgres_url, projection) as served:
            if served is None:
                raise NotServed(f"nothing is served of {projection.name}")
        await folding.fold(served.checkpoints, served.not_applied, progress)
        made = 0
        async with mending(settings.postgres_url, projection) as live:
            if live is None:
                raise NotServed(f"nothing is served of {projection.name}")
            await folding.fold_on(live)
            for table in tables_of(projection, part):
                await live.clear(table, part)
                rows = list(folding.tables.rows(table))
                await live.insert(table, rows)
                made += len(rows)
    return made


def tables_of(projection: Projection, part: Part | None) -> Sequence[AnyTable]:
    tables = projection.tables
    return tables if part is None else [one for one in tables if part.columns.get(one.name)]


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


class Folding:
    """A projection folded into tables of its own, as far as it is asked to."""

    def __init__(
        self,
        projection: Projection,
        log: PostgresEventLog,
        tables: SqliteTables,
        part: Part | None,
        pace: Pace | None,
    ) -> None:
        self.tables = tables
        self._projection = projection
        self._log = log
        self._part = part
        self._pace = pace
        self._checkpoints: Mapping[int, int] = dict.fromkeys(projection.partitions, 0)
        self._not_applied: frozenset[int] = frozenset()

    async def fold(
        self,
        checkpoints: Mapping[int, int],
        not_applied: Collection[int],
        progress: Progress = nothing_told,
    ) -> None:
        """Fold each partition up to its position, but for what has not been applied."""
        after = min(self._checkpoints.values())
        end = max(checkpoints.values(), default=0)
        at_once = LINES_AT_ONCE if self._pace is None else PACED_LINES
        read = lines_between(self._log, after, end + 1, at_once)
        async with contextlib.aclosing(read) as batches:
            async for lines in batches:
                if self._pace is not None:
                    await self._pace()
                # Rows that cannot be read are set aside by the workers, too.
                events, _ = await asyncio.to_thread(decode_lines, lines)
                await self._projection.prepare(events)
                await asyncio.to_thread(self._fold, events, checkpoints, not_applied)
                progress("folding", lines[-1].position, end)
        self._checkpoints, self._not_applied = dict(checkpoints), frozenset(not_applied)

    async def fold_on(self, live: Mending) -> None:
        """Fold what has been applied since. Raises `CannotVerify` where that is not all."""
        if self._not_applied - live.not_applied:
            raise CannotVerify("events that were set aside have been applied meanwhile; try again")
        # The tables are held still for as long as this takes.
        self._pace = None
        await self.fold(live.checkpoints, live.not_applied)

    def _fold(
        self,
        events: Sequence[Recorded],
        checkpoints: Mapping[int, int],
        not_applied: Collection[int],
    ) -> None:
        projection, begun = self._projection, self._checkpoints
        for recorded in events:
            event, position = recorded.event, recorded.position
            if not projection.folds(event) or position in not_applied:
                continue
            partition = partition_of(event)
            if not begun.get(partition, 0) < position <= checkpoints.get(partition, 0):
                continue
            try:
                changes = projection.fold(recorded)
                if self._part is not None:
                    changes = [change for change in changes if is_of(change, self._part)]
                self.tables.write(position, changes)
            except Exception as problem:
                # Whatever a fold raises, an event that the workers have applied cannot be folded.
                raise CannotVerify(
                    f"{projection.name} cannot fold the event at {position} ({recorded.stream}) any"
                    f" more: {problem!r}"
                ) from problem


@contextlib.asynccontextmanager
async def opened(
    settings: Settings,
    projection: Projection,
    part: Part | None = None,
    pace: Pace | None = None,
) -> AsyncIterator[Folding]:
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(rare_collections())
        tables = stack.enter_context(SqliteTables(projection.tables))
        log = await PostgresEventLog.open(settings.postgres_url)
        stack.push_async_callback(log.close)
        keyring = await PostgresKeyring.connect(settings.postgres_url)
        stack.push_async_callback(keyring.close)
        yield Folding(projection.with_texts(keyring), log, tables, part, pace)
