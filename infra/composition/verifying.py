"""Folding the log again and comparing that with what is served, assembled."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from infra.adapters.event_log import PostgresEventLog
from infra.adapters.served_tables import Pinned, pinned
from infra.adapters.sqlite_tables import SqliteTables
from infra.codec import Line, decode_lines, partition_of
from infra.composition.settings import Settings
from infra.runtime.log_ranges import lines_between
from infra.runtime.projection import Projection
from infra.runtime.rebuild import rare_collections

EXAMPLES_MAX = 5
Progress = Callable[[str, int, int], None]
"""Told what is done, how far it is, and how far it goes."""


class CannotVerify(Exception):
    """There is nothing to compare with, or the log cannot be folded."""


class NotServed(CannotVerify):
    """The projection has no live tables."""


async def verify(
    settings: Settings,
    projection: Projection,
    progress: Progress = lambda _what, _reached, _end: None,
    *,
    any_version: bool = False,
) -> dict[str, Any]:
    """Compare every row that is served with the row that the log gives; `any_version`: also where
    it was made by another version of the projection.

    What is served is taken at once, with the positions it was at; workers go on meanwhile. Raises
    `CannotVerify`, `StoreUnavailable` and `LogUnavailable`.
    """
    with rare_collections(), SqliteTables(projection.tables) as tables:
        async with pinned(settings.postgres_url, projection) as served:
            if served is None:
                raise NotServed(f"nothing is served of {projection.name}")
            if served.version != projection.version and not any_version:
                raise CannotVerify(
                    f"{projection.name} is served in version {served.version}; this is version"
                    f" {projection.version}"
                )
            for table in projection.tables:
                async with contextlib.aclosing(served.rows(table)) as batches:
                    async for rows in batches:
                        await asyncio.to_thread(tables.serve, table, rows)
        await fold_again(settings, projection, served, tables, progress)
        compared = [
            await asyncio.to_thread(tables.compare, table, EXAMPLES_MAX)
            for table in projection.tables
        ]
    examples = [
        {"table": one.table, "folded": one.folded, "served": one.served}
        for table in compared
        for one in table.examples
    ]
    return {
        "name": projection.name,
        "documents": sum(table.documents for table in compared),
        "different": sum(table.different for table in compared),
        "examples": examples[:EXAMPLES_MAX],
        "build": served.build,
        "version": served.version,
        "position": min(served.checkpoints.values(), default=0),
        "setAside": len(served.not_applied),
    }


async def fold_again(
    settings: Settings,
    projection: Projection,
    served: Pinned,
    tables: SqliteTables,
    progress: Progress,
) -> None:
    """Fold what the served rows were folded from: each partition up to where it was."""
    end = max(served.checkpoints.values(), default=0)
    log = await PostgresEventLog.open(settings.postgres_url)
    try:
        async with contextlib.aclosing(lines_between(log, 0, end + 1)) as batches:
            async for lines in batches:
                await asyncio.to_thread(fold, projection, served, lines, tables)
                progress(projection.name, lines[-1].position, end)
    finally:
        await log.close()


def fold(
    projection: Projection, served: Pinned, lines: Sequence[Line], tables: SqliteTables
) -> None:
    checkpoints, not_applied = served.checkpoints, served.not_applied
    # Rows that cannot be read are set aside by the workers, too.
    events, _ = decode_lines(lines)
    for recorded in events:
        event, position = recorded.event, recorded.position
        if not projection.folds(event) or position in not_applied:
            continue
        if position > checkpoints.get(partition_of(event), 0):
            continue
        try:
            tables.write(position, projection.fold(recorded))
        except Exception as problem:
            # Whatever a fold raises, an event that the workers have applied cannot be folded.
            raise CannotVerify(
                f"{projection.name} cannot fold the event at {position} ({recorded.stream}) any"
                f" more: {problem!r}"
            ) from problem
