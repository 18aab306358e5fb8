"""Changes to tables that are being loaded, and that no row can be found in yet.

Rows that end and numbers to add are put beside their table; `projection_builds.complete` brings
them together.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from infra.adapters.tables.copy_format import Values
from infra.adapters.tables.table_making import is_deferrable
from infra.ports.log import OPEN
from infra.ports.tables import (
    Add,
    AnyTable,
    Change,
    Close,
    CountTable,
    Folded,
    Insert,
    RangeTable,
    Table,
)


class BulkRows:
    """Rows of one table, and keys under which one ends, each with its event's position."""

    def __init__(self, table: Table) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._positions: list[int] = []
        self._keys: list[tuple[Any, ...]] = []
        self._ends: list[int] = []
        self._ranges = isinstance(table, RangeTable)

    def take(self, change: Change, position: int) -> None:
        if isinstance(change, Insert):
            self._rows.append(change.row)
            self._positions.append(position)
        else:
            assert isinstance(change, Close)
            self._keys.append(change.key)
            self._ends.append(position)

    def columns(self) -> list[Values]:
        if not self._rows:
            return []
        columns: list[Values] = [*zip(*self._rows, strict=True), self._positions]
        return [*columns, [OPEN] * len(self._rows)] if self._ranges else columns

    def beside(self) -> list[Values]:
        return [*zip(*self._keys, strict=True), self._ends] if self._keys else []


class BulkCounts:
    """Numbers to add to one table of counts."""

    def __init__(self) -> None:
        self._keys: list[int] = []
        self._deltas: list[tuple[int, ...]] = []
        self._positions: list[int] = []

    def take(self, change: Change, position: int) -> None:
        assert isinstance(change, Add)
        self._keys.append(change.key)
        self._deltas.append(change.deltas)
        self._positions.append(position)

    def columns(self) -> list[Values]:
        return []

    def beside(self) -> list[Values]:
        """One row a key: its numbers summed, and the newest position."""
        if not self._keys:
            return []
        keys = np.array(self._keys, dtype=np.int64)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        firsts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        sums: list[Values] = [
            np.add.reduceat(np.array(column, dtype=np.int64)[order], firsts)
            for column in zip(*self._deltas, strict=True)
        ]
        newest = np.maximum.reduceat(np.array(self._positions, dtype=np.int64)[order], firsts)
        return [keys[firsts], *sums, newest]


class BulkChanges:
    """All changes of some events to the tables that can be loaded so; `others` are the rest."""

    def __init__(self, tables: Sequence[AnyTable]) -> None:
        self.tables: dict[str, BulkRows | BulkCounts] = {
            table.name: BulkCounts() if isinstance(table, CountTable) else BulkRows(table)
            for table in tables
            if is_deferrable(table)
        }
        self.others: list[tuple[int, Sequence[Change]]] = []

    def add(self, folded: Folded) -> None:
        tables = self.tables
        for position, changes in folded:
            for change in changes:
                table = tables.get(change.table.name)
                if table is None:
                    self.others.append((position, (change,)))
                else:
                    table.take(change, position)
