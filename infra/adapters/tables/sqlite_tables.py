"""Read tables in a file of their own that is gone when it is closed: for folds beside what is live.

Changes are written one by one, in the order of the log, by the plainest statements that do what
`infra.ports.tables` says of them.
"""

import base64
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from infra.formats.event_shapes import timestamp
from infra.ports.log import OPEN
from infra.ports.tables import (
    Add,
    AnyTable,
    Blank,
    Change,
    Close,
    Column,
    CountTable,
    Forget,
    Insert,
    RangeTable,
    Revise,
    RowMissing,
    columns_of,
    key_of,
)

CACHE_KIB = 65_536
SQL_TYPES = {"bigint": "INTEGER", "boolean": "INTEGER", "bytea": "BLOB"}

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Plan:
    """A table's columns, and the statements that change it."""

    columns: tuple[Column, ...]
    insert: str
    holding: str = ""
    close: str = ""


class SqliteTables:
    """The tables of one read model, filled by one caller.

    `begun_before`: events before the first one given are left out, so that rows may be missing;
    what would revise such a row does nothing, and is counted in `unknown_rows`.
    """

    def __init__(self, tables: Sequence[AnyTable], *, begun_before: bool = False) -> None:
        self.unknown_rows = 0
        self._begun_before = begun_before
        self._tables = {table.name: table for table in tables}
        # Without a name it is a temporary file that SQLite removes.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}"):
            self._database.execute(f"PRAGMA {setting}")
        self._plans = {table.name: self._make(table) for table in tables}
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def write(self, position: int, changes: Sequence[Change]) -> None:
        """Write what one event changes. Raises `RowMissing`."""
        for change in changes:
            plan = self._plans[change.table.name]
            match change:
                case Insert():
                    values = [*change.row, position]
                    if isinstance(change.table, RangeTable):
                        values.append(OPEN)
                    self._database.execute(plan.insert, stored(values))
                case Add():
                    self._database.execute(plan.insert, (change.key, *change.deltas, position))
                case Close():
                    self._database.execute(plan.close, (position, *stored(change.key)))
                case Revise():
                    self._revise(plan, change, position)
                case Blank():
                    self._blank(change)
                case Forget():
                    query = f'DELETE FROM "{change.table.name}" WHERE "{change.column}" = ?'  # noqa: S608
                    self._database.execute(query, (change.value,))

    def rows(self, table: AnyTable) -> Iterator[Row]:
        """All rows as stored values, in one order: by key, then by whatever tells them apart."""
        names = [column.name for column in self._plans[table.name].columns]
        order = quoted([*key_of(table), *names])
        query = f'SELECT {quoted(names)} FROM "{table.name}" ORDER BY {order}'  # noqa: S608
        yield from self._database.execute(query)

    def documents(self, table: AnyTable) -> Iterator[Mapping[str, Any]]:
        """The same as JSON knows them, by column: bytes as base64, times as text."""
        columns = self._plans[table.name].columns
        for row in self.rows(table):
            yield document(columns, row)

    def _revise(self, plan: Plan, change: Revise, position: int) -> None:
        key = stored(change.key)
        before = self._database.execute(plan.holding, key).fetchone()
        if before is None:
            if not self._begun_before:
                raise RowMissing(f"no row of {change.table.name} holds under {change.key}")
            self.unknown_rows += 1
            return
        self._database.execute(plan.close, (position, *key))
        row = dict(zip((column.name for column in plan.columns), before, strict=True))
        row |= dict(zip(change.columns, stored(list(change.columns.values())), strict=True))
        row |= {change.table.since: position, "until": OPEN}
        self._database.execute(plan.insert, list(row.values()))

    def _blank(self, change: Blank) -> None:
        blanked = ", ".join(f'"{name}" = NULL' for name in change.columns)
        query = f'UPDATE "{change.table.name}" SET {blanked} WHERE {same(change.table.key)}'  # noqa: S608
        self._database.execute(query, stored(change.key))

    def _make(self, table: AnyTable) -> Plan:
        columns = columns_of(table)
        self._database.execute(create_statement(table.name, columns))
        marks = ", ".join("?" for _ in columns)
        insert = f'INSERT INTO "{table.name}" VALUES ({marks})'  # noqa: S608
        if isinstance(table, CountTable):
            self._database.execute(f'CREATE UNIQUE INDEX "{table.name}_key" ON "{table.name}"'
                                   f' ("{table.key}")')  # fmt: skip
            added = ", ".join(f'"{name}" = "{name}" + excluded."{name}"' for name in table.counts)
            return Plan(
                columns,
                f'{insert} ON CONFLICT ("{table.key}") DO UPDATE SET {added},'
                " position = max(position, excluded.position)",
            )
        if not isinstance(table, RangeTable):
            return Plan(columns, insert)
        key = quoted(table.key)
        self._database.execute(
            f'CREATE INDEX "{table.name}_key" ON "{table.name}" ({key}) WHERE until = {OPEN}'
        )
        if table.revisable:
            self._database.execute(f'CREATE INDEX "{table.name}_all" ON "{table.name}" ({key})')
        names = quoted(column.name for column in columns)
        holds = f"until = {OPEN} AND {same(table.key)}"
        return Plan(
            columns,
            insert,
            holding=f'SELECT {names} FROM "{table.name}" WHERE {holds}',  # noqa: S608
            close=f'UPDATE "{table.name}" SET until = ? WHERE {holds}',  # noqa: S608
        )


def create_statement(name: str, columns: Sequence[Column]) -> str:
    made = ", ".join(f'"{column.name}" {SQL_TYPES.get(column.type, "TEXT")}' for column in columns)
    return f'CREATE TABLE "{name}" ({made})'


def quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def document(columns: Sequence[Column], row: Row) -> Mapping[str, Any]:
    """A row as JSON knows it."""
    return {
        column.name: None if value is None else shown_as(column)(value)
        for column, value in zip(columns, row, strict=True)
    }


def same(key: Sequence[str]) -> str:
    return " AND ".join(f'"{name}" IS ?' for name in key)


def stored(values: Sequence[Any]) -> list[Any]:
    return [
        value if isinstance(value, int | str | bytes | None) else stored_text(value)
        for value in values
    ]


def stored_text(value: Any) -> str:
    """Times and lists of texts as texts."""
    if isinstance(value, list | tuple):
        return json.dumps(list(value), ensure_ascii=False)
    return timestamp(value)


def shown_as(column: Column) -> Callable[[Any], Any]:
    match column.type:
        case "boolean":
            return bool
        case "bytea":
            return lambda value: base64.b64encode(value).decode()
        case "text[]":
            return json.loads
        case _:
            return lambda value: value
