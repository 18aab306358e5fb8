"""Brings the changes of many events together, so that each table is written in a few statements.

A row that begins and ends among these events is written once, complete; deltas are summed by key.
What is left for the tables themselves: rows that end here and began before.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from infra.ports.log import OPEN
from infra.ports.tables import (
    Add,
    AnyTable,
    Blank,
    Close,
    CountTable,
    Folded,
    Forget,
    Insert,
    RangeTable,
    Revise,
    RowMissing,
    Table,
)

Key = tuple[Any, ...]
Row = list[Any]


class RowChanges:
    """The changes to one table of rows."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows: list[Row] = []
        self.closes: dict[Key, int] = {}
        self.blanks: dict[tuple[str, ...], set[Key]] = {}
        self.forgotten: dict[str, set[int]] = {}
        self._holding: dict[Key, Row] = {}
        self._revisions: list[tuple[Row, Key, Row | None, Mapping[str, Any]]] = []
        self._ranges = isinstance(table, RangeTable)
        self._key = key_getter(table) if isinstance(table, RangeTable) else None

    def insert(self, change: Insert, position: int) -> None:
        if self._key is None:
            self.rows.append([*change.row, position])
            return
        row = [*change.row, position, OPEN]
        self.rows.append(row)
        self._holding[self._key(row)] = row

    def close(self, change: Close, position: int) -> None:
        row = self._holding.pop(change.key, None)
        if row is None:
            self.closes.setdefault(change.key, position)
        else:
            row[-1] = position

    def revise(self, change: Revise, position: int) -> None:
        before = self._holding.get(change.key)
        if before is None:
            self.closes.setdefault(change.key, position)
        else:
            before[-1] = position
        row: Row = [*(None for _ in self.table.columns), position, OPEN]
        self.rows.append(row)
        self._holding[change.key] = row
        self._revisions.append((row, change.key, before, change.columns))

    def blank(self, change: Blank) -> None:
        self.blanks.setdefault(change.columns, set()).add(change.key)

    def forget(self, change: Forget) -> None:
        """What stands in the table is forgotten before rows of these events are written."""
        self.forgotten.setdefault(change.column, set()).add(change.value)
        place = self.table.names.index(change.column)
        self.rows = [row for row in self.rows if row[place] != change.value]
        self._holding = {k: row for k, row in self._holding.items() if row[place] != change.value}

    def revised_keys(self) -> list[Key]:
        """Keys whose row in the table must be known before `complete`."""
        return [key for _, key, before, _ in self._revisions if before is None]

    def complete(self, stored: Mapping[Key, Sequence[Any]]) -> None:
        """Fill in revised rows from those that hold in the table. Raises `RowMissing`."""
        width = len(self.table.columns)
        index = {name: place for place, name in enumerate(self.table.names)}
        for row, key, before, columns in self._revisions:
            source = before if before is not None else stored.get(key)
            if source is None:
                raise RowMissing(f"no row of {self.table.name} holds under {key}")
            row[:width] = source[:width]
            for name, value in columns.items():
                row[index[name]] = value

    def touched(self, column: str) -> set[Any]:
        place = self.table.names.index(column)
        found = {row[place] for row in self.rows}
        if isinstance(self.table, RangeTable) and column in self.table.key:
            place = self.table.key.index(column)
            found.update(key[place] for key in self.closes)
        return found


class CountChanges:
    """The summed deltas to one table of counts; each list ends with the newest position."""

    def __init__(self, table: CountTable) -> None:
        self.table = table
        self.deltas: dict[int, list[int]] = {}

    def add(self, change: Add, position: int) -> None:
        deltas = self.deltas.get(change.key)
        if deltas is None:
            self.deltas[change.key] = [*change.deltas, position]
            return
        for place, delta in enumerate(change.deltas):
            deltas[place] += delta
        deltas[-1] = max(deltas[-1], position)


class ChangeSet:
    """All changes of some events, by table."""

    def __init__(self, tables: Sequence[AnyTable]) -> None:
        self.rows = {t.name: RowChanges(t) for t in tables if isinstance(t, Table)}
        self.counts = {t.name: CountChanges(t) for t in tables if isinstance(t, CountTable)}

    def add(self, folded: Folded) -> None:
        rows, counts = self.rows, self.counts
        for position, changes in folded:
            for change in changes:
                kind = type(change)
                if kind is Add:
                    counts[change.table.name].add(change, position)  # type: ignore[arg-type]
                elif kind is Insert:
                    rows[change.table.name].insert(change, position)  # type: ignore[arg-type]
                elif kind is Close:
                    rows[change.table.name].close(change, position)  # type: ignore[arg-type]
                elif kind is Revise:
                    rows[change.table.name].revise(change, position)  # type: ignore[arg-type]
                elif kind is Blank:
                    rows[change.table.name].blank(change)  # type: ignore[arg-type]
                else:
                    rows[change.table.name].forget(change)  # type: ignore[arg-type]

    def touched(self) -> Mapping[str, set[Any]]:
        """What readers may have cached and must look up again: ids by kind."""
        found: defaultdict[str, set[Any]] = defaultdict(set)
        for changes in self.rows.values():
            for kind, column in changes.table.touches:
                found[kind] |= changes.touched(column)
        for counts in self.counts.values():
            for kind, _ in counts.table.touches:
                found[kind].update(counts.deltas)
        return found


def key_getter(table: RangeTable) -> Callable[[Sequence[Any]], Key]:
    """How to read a row's key out of it."""
    places = [table.names.index(name) for name in table.key]
    if len(places) == 1:
        place = places[0]
        return lambda row: (row[place],)
    return itemgetter(*places)
