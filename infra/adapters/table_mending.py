"""Puts rows of a live table right, in one transaction in which nobody else changes the table."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from infra.adapters.connections import bounded, connected
from infra.adapters.postgres_builds import HOLD_LIVE, SWITCH_SETTINGS
from infra.adapters.projection_builds import Connection, live_builds, schema_name
from infra.adapters.served_tables import NOT_APPLIED, condition
from infra.adapters.sqlite_tables import columns_of, key_of
from infra.ports import CHANGES_CHANNEL
from infra.tables import AnyTable, Part, ReadModel, StoreUnavailable

MENDING_SECONDS = 60.0
TELL = "SELECT pg_notify(%s, %s::jsonb::text)"

Row = Sequence[Any]


class Mending:
    """The live tables of one projection, held still at `checkpoints`."""

    def __init__(
        self,
        connection: Connection,
        build: tuple[str, int],
        checkpoints: Mapping[int, int],
        not_applied: frozenset[int],
    ) -> None:
        self.checkpoints = checkpoints
        self.not_applied = not_applied
        self._connection = connection
        self._schema = schema_name(*build)

    async def replace(self, table: AnyTable, keys: Sequence[Row], rows: Iterable[Row]) -> None:
        """Have exactly these rows under these keys; values as `SqliteTables` stores them."""
        name = sql.Identifier(self._schema, table.name)
        key = key_of(table)
        types = {column.name: column.type for column in columns_of(table)}
        condition = sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier(one), placeholder(types[one])) for one in key
        )
        delete = sql.SQL("DELETE FROM {} WHERE {}").format(name, condition)
        cursor = self._connection.cursor()
        await cursor.executemany(delete, [list(one) for one in keys])
        await self.insert(table, rows)

    async def clear(self, table: AnyTable, part: Part) -> int:
        """Remove the rows of a part; answers how many there were."""
        name = sql.Identifier(self._schema, table.name)
        query = sql.SQL("DELETE FROM {} WHERE {}").format(name, condition(part, table))
        return (await self._connection.execute(query)).rowcount

    async def insert(self, table: AnyTable, rows: Iterable[Row]) -> None:
        columns = columns_of(table)
        insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(self._schema, table.name),
            sql.SQL(", ").join(sql.Identifier(column.name) for column in columns),
            sql.SQL(", ").join(placeholder(column.type) for column in columns),
        )
        values = [
            [as_written(column.type, value) for column, value in zip(columns, row, strict=True)]
            for row in rows
        ]
        await self._connection.cursor().executemany(insert, values)


def placeholder(kind: str) -> sql.Composed:
    return sql.SQL("%s::{}").format(sql.SQL(kind))


def as_written(kind: str, value: Any) -> Any:
    """A stored value as PostgreSQL takes it."""
    if kind == "boolean" and value is not None:
        return bool(value)
    return json.loads(value) if kind == "text[]" and value is not None else value


@contextlib.asynccontextmanager
async def mending(postgres_url: str, projection: ReadModel) -> AsyncIterator[Mending | None]:
    """Commits at the end of the block and tells readers; None where nothing is live.

    Raises `StoreUnavailable`.
    """
    name = projection.name
    try:
        async with connected(postgres_url, "plaza-mend", SWITCH_SETTINGS) as connection:
            with bounded(connection, MENDING_SECONDS):
                async with connection.transaction():
                    held = await connection.execute(HOLD_LIVE, [[name]])
                    checkpoints: dict[int, int] = dict(await held.fetchall())
                    live = (await live_builds(connection)).get(name)
                    if live is None:
                        yield None
                        return
                    if not checkpoints:
                        raise StoreUnavailable("builds have been switched")
                    build = (name, live[0])
                    aside = await (await connection.execute(NOT_APPLIED, build)).fetchall()
                    not_applied = frozenset(int(position) for (position,) in aside)
                    yield Mending(connection, build, checkpoints, not_applied)
                    told = {
                        "projection": name,
                        "build": live[0],
                        "positions": {},
                        "everything": True,
                    }
                    await connection.execute(TELL, [CHANGES_CHANNEL, Jsonb(told)])
    except (psycopg.Error, OSError) as error:
        raise StoreUnavailable(str(error)) from error
