"""Writes the changes of many events to one build's tables, in a few statements a table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg import sql

from infra.adapters.tables.bulk_changes import BulkChanges
from infra.adapters.tables.change_sets import ChangeSet, CountChanges, Key, RowChanges, key_getter
from infra.adapters.tables.copy_format import Encode, Values, bigints, column_encoder, row_encoder
from infra.adapters.tables.projection_builds import Connection
from infra.adapters.tables.table_making import deferred_name
from infra.ports.log import OPEN
from infra.ports.tables import AnyTable, CountTable, Folded, RangeTable

FEW = 200
"""Up to so many events, waiting for the server costs more than its work."""


class TableWriter:
    """Writes the changes of one projection's tables in one schema.

    `deferred`: the tables have no indexes yet, so that rows can be found by nothing; what changes
    rows of earlier batches is put beside the table, for `projection_builds.complete`.
    """

    def __init__(self, tables: Sequence[AnyTable], schema: str, *, deferred: bool = False) -> None:
        self._deferred = deferred
        self._schema = schema
        self._tables = tables
        # Rendered once: a composed statement is put together anew each time it is executed.
        self._statements = {
            table.name: {
                what: statement.as_bytes(None)
                for what, statement in statements(schema, table).items()
            }
            for table in tables
        }
        self._encoders = {
            (table.name, what): encoder
            for table in tables
            for what, encoder in encoders(table).items()
        }

    async def write(
        self, connection: Connection, folded: Folded, *, at_once: bool
    ) -> Mapping[str, set[Any]]:
        """Write all changes; answers the ids that readers must look up again, by kind.

        `at_once`: if they are few, statements may go to the server together.
        """
        if self._deferred:
            folded = await self._write_bulk(connection, folded)
        changes = ChangeSet(self._tables)
        changes.add(folded)
        if at_once and len(folded) <= FEW and not self._deferred:
            # Statements go to the server together, and are waited for once.
            async with connection.pipeline():
                await self._write_changes(connection, changes, few=True)
        else:
            await self._write_changes(connection, changes, few=False)
        return {} if self._deferred else changes.touched()

    async def _write_bulk(self, connection: Connection, folded: Folded) -> Folded:
        """Write what needs no looking up; answers the other changes."""
        changes = BulkChanges(self._tables)
        changes.add(folded)
        for name, table in changes.tables.items():
            await self._copy(connection, name, "copy", table.columns())
            await self._copy(connection, name, "defer", table.beside())
        return changes.others

    async def _write_changes(
        self, connection: Connection, changes: ChangeSet, *, few: bool
    ) -> None:
        for rows in changes.rows.values():
            await self._write_rows(connection, rows, few=few)
        for counts in changes.counts.values():
            await self._write_counts(connection, counts)

    async def _write_rows(self, connection: Connection, changes: RowChanges, *, few: bool) -> None:
        table = changes.table
        statement = self._statements[table.name]
        if isinstance(table, RangeTable):
            for column, values in changes.forgotten.items():
                query = forget_statement(self._schema, table, column)
                await connection.execute(query, [bigints(sorted(values))])
            keys = changes.revised_keys()
            changes.complete(await self._holding(connection, table, keys) if keys else {})
            if changes.closes:
                # Rows that end go first: a row that begins in this transaction stays open.
                keys = list(changes.closes)
                parameters = [*key_arrays(table, keys), bigints(list(changes.closes.values()))]
                await connection.execute(statement["close"], parameters, prepare=True)
        if few and changes.rows:
            await connection.cursor().executemany(statement["insert"], changes.rows)
        elif changes.rows:
            await self._copy(connection, table.name, "copy", list(zip(*changes.rows, strict=True)))
        if isinstance(table, RangeTable):
            for columns, blanked in changes.blanks.items():
                query = blank_statement(self._schema, table, columns)
                await connection.execute(query, key_arrays(table, list(blanked)))

    async def _copy(
        self, connection: Connection, table: str, what: str, columns: Sequence[Values]
    ) -> None:
        """Write rows that are given as columns, if there are any."""
        if columns:
            buffer = self._encoders[table, what](columns)
            async with connection.cursor().copy(self._statements[table][what]) as copy:
                await copy.write(buffer)

    async def _holding(
        self, connection: Connection, table: RangeTable, keys: Sequence[Key]
    ) -> Mapping[Key, Sequence[Any]]:
        key_of = key_getter(table)
        rows = await connection.execute(
            self._statements[table.name]["holding"], key_arrays(table, keys)
        )
        return {key_of(row): row for row in await rows.fetchall()}

    async def _write_counts(self, connection: Connection, changes: CountChanges) -> None:
        if not changes.deltas:
            return
        # Workers on different partitions change the same rows; in one order, none waits in a ring.
        keys = sorted(changes.deltas)
        columns = zip(*(changes.deltas[key] for key in keys), strict=True)
        parameters = [bigints(keys), *(bigints(column) for column in columns)]
        await connection.execute(
            self._statements[changes.table.name]["add"], parameters, prepare=True
        )


def encoders(table: AnyTable) -> dict[str, Encode]:
    """How rows of a table are written, and keys with what becomes of them beside it."""
    if isinstance(table, CountTable):
        return {"defer": column_encoder(["bigint"] * (len(table.counts) + 2))}
    found = {"copy": row_encoder(table)}
    if isinstance(table, RangeTable):
        types = {column.name: column.type for column in table.columns}
        found["defer"] = column_encoder([*(types[name] for name in table.key), "bigint"])
    return found


def statements(schema: str, table: AnyTable) -> dict[str, sql.Composed]:
    """The statements that change a table, by what they do."""
    name = sql.Identifier(schema, table.name)
    if isinstance(table, CountTable):
        return {"add": add_statement(name, table), "defer": defer_statement(schema, table)}
    copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(name, names(table.names))
    insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        name, names(table.names), sql.SQL(", ").join(sql.Placeholder() for _ in table.names)
    )
    if not isinstance(table, RangeTable):
        return {"copy": copy, "insert": insert}
    arrays, same_key = key_parts(table)
    holds = sql.SQL("t.until = {}").format(sql.Literal(OPEN))
    close = sql.SQL(
        "UPDATE {} AS t SET until = c.position FROM unnest({}, %s::bigint[]) AS c ({}, position)"
        " WHERE {} AND {}"
    ).format(name, arrays, names(table.key), same_key, holds)
    columns = sql.SQL(", ").join(
        sql.SQL("t.{}").format(sql.Identifier(column)) for column in table.names
    )
    holding = sql.SQL("SELECT {} FROM {} AS t, unnest({}) AS c ({}) WHERE {} AND {}").format(
        columns, name, arrays, names(table.key), same_key, holds
    )
    return {
        "copy": copy,
        "insert": insert,
        "close": close,
        "holding": holding,
        "defer": defer_statement(schema, table),
    }


def defer_statement(schema: str, table: AnyTable) -> sql.Composed:
    return sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(schema, deferred_name(table))
    )


def blank_statement(schema: str, table: RangeTable, columns: Sequence[str]) -> sql.Composed:
    arrays, same_key = key_parts(table)
    return sql.SQL("UPDATE {} AS t SET {} FROM unnest({}) AS c ({}) WHERE {}").format(
        sql.Identifier(schema, table.name),
        sql.SQL(", ").join(sql.SQL("{} = NULL").format(sql.Identifier(c)) for c in columns),
        arrays,
        names(table.key),
        same_key,
    )


def forget_statement(schema: str, table: RangeTable, column: str) -> sql.Composed:
    return sql.SQL("DELETE FROM {} WHERE {} = ANY(%s)").format(
        sql.Identifier(schema, table.name), sql.Identifier(column)
    )


def key_parts(table: RangeTable) -> tuple[sql.Composed, sql.Composed]:
    """Parameters for arrays of keys, and the condition that a row `t` has the key `c`."""
    types = {column.name: column.type for column in table.columns}
    arrays = sql.SQL(", ").join(sql.SQL("%s::{}[]").format(sql.SQL(types[k])) for k in table.key)
    same_key = sql.SQL(" AND ").join(
        sql.SQL("t.{0} = c.{0}").format(sql.Identifier(key)) for key in table.key
    )
    return arrays, same_key


def add_statement(name: sql.Identifier, table: CountTable) -> sql.Composed:
    columns = (table.key, *table.counts, "position")
    added = [
        sql.SQL("{0} = t.{0} + excluded.{0}").format(sql.Identifier(count))
        for count in table.counts
    ]
    return sql.SQL(
        "INSERT INTO {} AS t ({}) SELECT * FROM unnest({})"
        " ON CONFLICT ({}) DO UPDATE SET {}, position = greatest(t.position, excluded.position)"
    ).format(
        name,
        names(columns),
        sql.SQL(", ").join(sql.SQL("%s::bigint[]") for _ in columns),
        sql.Identifier(table.key),
        sql.SQL(", ").join(added),
    )


def names(columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def key_arrays(table: RangeTable, keys: Sequence[Key]) -> list[Any]:
    """One array per column of the key."""
    types = {column.name: column.type for column in table.columns}
    columns = zip(*keys, strict=True)
    return [
        bigints(column) if types[name] == "bigint" else list(column)
        for name, column in zip(table.key, columns, strict=True)
    ]
