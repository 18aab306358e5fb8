"""Two builds of the same tables, compared row by row inside the database, as of one moment."""

import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from infra.adapters.connections import connected
from infra.adapters.niceness import let_idle
from infra.adapters.tables.projection_builds import (
    BULK_SETTINGS,
    Connection,
    live_builds,
    schema_name,
)
from infra.formats.event_shapes import data_of
from infra.ports.keepers import EXAMPLES_MAX, CannotVerify, Different, Verified
from infra.ports.tables import AnyTable, ReadModel, StoreUnavailable, columns_of, key_of

COLUMNS = """
    SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s
"""
SET_ASIDE = """
    SELECT count(*) FROM public.dead_letters
    WHERE projection = %s AND build = %s AND status IN ('parked', 'waiting')
"""
# One process of the server, whatever it has to go through: others are being served meanwhile.
SETTINGS = BULK_SETTINGS + "; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off"


class Comparison:
    """A build that has been made against the one that is live.

    The live tables are held still at `positions` until `pin`. Once the other build has been brought
    there too, `pin` takes a snapshot of both and lets the live ones go on.
    """

    def __init__(
        self,
        connection: Connection,
        projection: ReadModel,
        build: int,
        positions: Mapping[int, int],
        let_go: Callable[[], Awaitable[None]],
    ) -> None:
        self.positions = positions
        self._connection = connection
        self._projection = projection
        self._build = build
        self._let_go = let_go

    async def pin(self) -> None:
        await self._connection.execute("SELECT 1")
        await self._let_go()
        let_idle(self._connection)

    async def result(self) -> Verified:
        """Every row of every table, both ways. Tables that are not of the same shape are compared
        in what they share. Raises `CannotVerify` where nothing is live."""
        connection, name = self._connection, self._projection.name
        await connection.execute(SETTINGS)
        live = (await live_builds(connection)).get(name)
        if live is None:
            raise CannotVerify(f"nothing is served of {name}")
        schemas = schema_name(name, live[0]), schema_name(name, self._build)
        shapes = [await shape(connection, schema) for schema in schemas]
        rows = await connection.execute(SET_ASIDE, [name, self._build])
        documents = different = 0
        examples: list[Different] = []
        for table in self._projection.tables:
            wanted = [column.name for column in columns_of(table)]
            shared = [one for one in wanted if one in shapes[0].get(table.name, ())]
            if not set(key_of(table)) <= set(shared):
                continue
            served, computed = (sql.Identifier(schema, table.name) for schema in schemas)
            counted, differing, found = await compared(connection, served, computed, table, shared)
            documents += counted
            different += differing
            examples += found
        first = await rows.fetchone()
        return Verified(
            name=name,
            documents=documents,
            different=different,
            examples=examples[:EXAMPLES_MAX],
            build=live[0],
            version=live[1],
            position=min(self.positions.values(), default=0),
            set_aside=0 if first is None else int(first[0]),
            comparable=shapes[0] == shapes[1],
        )


@contextlib.asynccontextmanager
async def open_comparison(
    url: str,
    projection: ReadModel,
    build: int,
    positions: Mapping[int, int],
    let_go: Callable[[], Awaitable[None]],
) -> AsyncIterator[Comparison]:
    try:
        async with connected(url, "plaza-compare") as connection:
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            await connection.set_read_only(True)
            async with connection.transaction():
                yield Comparison(connection, projection, build, positions, let_go)
    except (psycopg.Error, OSError) as error:
        raise StoreUnavailable(str(error)) from error


async def shape(connection: Connection, schema: str) -> dict[str, set[str]]:
    """The columns of each table of a build."""
    found: dict[str, set[str]] = {}
    for table, column in await (await connection.execute(COLUMNS, [schema])).fetchall():
        found.setdefault(table, set()).add(column)
    return found


async def compared(
    connection: Connection,
    served: sql.Identifier,
    computed: sql.Identifier,
    table: AnyTable,
    columns: Sequence[str],
) -> tuple[int, int, list[Different]]:
    """How many rows are served, how many differ, and the first few of those."""
    key = key_of(table)
    counted = await connection.execute(sql.SQL("SELECT count(*) FROM {}").format(served))
    first = await counted.fetchone()
    query = sql.SQL(
        "SELECT count(*) OVER (), n.{mark} IS NOT NULL, l.{mark} IS NOT NULL, {new}, {live}"
        " FROM {differing} ORDER BY {key} LIMIT {limit}"
    ).format(
        mark=sql.Identifier(key[0]),
        new=listed("n", columns),
        live=listed("l", columns),
        differing=differing(served, computed, table, columns),
        key=key_of_either(table),
        limit=sql.Literal(EXAMPLES_MAX),
    )
    rows = await (await connection.execute(query)).fetchall()
    examples = [
        Different(
            place=table.name,
            computed=document(columns, row[3 : 3 + len(columns)]) if row[1] else None,
            served=document(columns, row[3 + len(columns) :]) if row[2] else None,
        )
        for row in rows
    ]
    return int(first[0]) if first else 0, int(rows[0][0]) if rows else 0, examples


def differing(
    served: sql.Identifier, computed: sql.Identifier, table: AnyTable, columns: Sequence[str]
) -> sql.Composed:
    """The rows `l` that are served and those `n` that were computed under the same key, where they
    are not the same."""
    return sql.SQL(
        "{served} AS l FULL JOIN {computed} AS n ON {same} WHERE ({live}) IS DISTINCT FROM ({new})"
    ).format(
        served=served,
        computed=computed,
        same=same_key("l", "n", table),
        live=listed("l", columns),
        new=listed("n", columns),
    )


def same_key(one: str, other: str, table: AnyTable) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(one, name), sql.Identifier(other, name))
        for name in key_of(table)
    )


def key_of_either(table: AnyTable) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("coalesce(l.{0}, n.{0})").format(sql.Identifier(name)) for name in key_of(table)
    )


def listed(alias: str, columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(alias, name) for name in columns)


def document(columns: Sequence[str], values: Sequence[Any]) -> Mapping[str, Any]:
    """A row as JSON knows it."""
    return {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else data_of(value)
        for name, value in zip(columns, values, strict=True)
    }
