"""The rows that are served of a projection, all at one point in time, while workers go on."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from infra.adapters.connections import connected
from infra.adapters.projection_builds import Connection, live_builds, schema_name
from infra.adapters.sqlite_tables import columns_of
from infra.tables import AnyTable, Part, ReadModel, StoreUnavailable

ROWS_AT_ONCE = 10_000
CHECKPOINTS = """
    SELECT partition, position FROM public.checkpoints WHERE projection = %s AND build = %s
"""
NOT_APPLIED = """
    SELECT position FROM public.dead_letters
    WHERE projection = %s AND build = %s AND status <> 'retried'
"""


@dataclass(frozen=True)
class Pinned:
    """What is served of a projection as of one snapshot of the database.

    `checkpoints`: how far each partition is in it. `not_applied`: events before that which were set
    aside, and are in no row.
    """

    build: int
    version: int
    checkpoints: Mapping[int, int]
    not_applied: frozenset[int]
    _connection: Connection
    _schema: str

    async def rows(
        self, table: AnyTable, part: Part | None = None
    ) -> AsyncGenerator[Sequence[tuple[Any, ...]], None]:
        """All rows, or those of a part."""
        query = sql.SQL("SELECT {} FROM {} WHERE {}").format(
            sql.SQL(", ").join(sql.Identifier(column.name) for column in columns_of(table)),
            sql.Identifier(self._schema, table.name),
            sql.SQL("true") if part is None else condition(part, table),
        )
        async with self._connection.cursor("served", binary=True) as cursor:
            await cursor.execute(query)
            while rows := await cursor.fetchmany(ROWS_AT_ONCE):
                yield rows


def condition(part: Part, table: AnyTable) -> sql.Composed:
    """That a row of the table is of this part."""
    return sql.SQL(" OR ").join(
        sql.SQL("{} = {}").format(sql.Identifier(column), sql.Literal(part.value))
        if part.modulus is None
        else sql.SQL("{} % {} = {}").format(
            sql.Identifier(column), sql.Literal(part.modulus), sql.Literal(part.value)
        )
        for column in part.columns.get(table.name, ())
    )


@contextlib.asynccontextmanager
async def pinned(postgres_url: str, projection: ReadModel) -> AsyncIterator[Pinned | None]:
    """The live build as of now for as long as the block lasts; None where nothing is live.

    Raises `StoreUnavailable`.
    """
    try:
        async with connected(postgres_url, "plaza-verify") as connection:
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            await connection.set_read_only(True)
            async with connection.transaction():
                live = (await live_builds(connection)).get(projection.name)
                if live is None:
                    yield None
                    return
                build, version = live
                place = [projection.name, build]
                checkpoints = await (await connection.execute(CHECKPOINTS, place)).fetchall()
                set_aside = await (await connection.execute(NOT_APPLIED, place)).fetchall()
                yield Pinned(
                    build,
                    version,
                    {int(partition): int(position) for partition, position in checkpoints},
                    frozenset(int(position) for (position,) in set_aside),
                    connection,
                    schema_name(projection.name, build),
                )
    except (psycopg.Error, OSError) as error:
        # Also where the build was dropped, because another one is served by now.
        raise StoreUnavailable(str(error)) from error
