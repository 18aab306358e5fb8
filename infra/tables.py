"""What read models keep: tables of rows with the log positions in which they held, and counts.

A fold answers changes to these tables and knows nothing of how a store writes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from msgspec import Struct

ColumnType = Literal["bigint", "text", "bytea", "boolean", "timestamptz", "text[]"]
Touched = Literal["posts", "members", "relations", "sessions"]


@dataclass(frozen=True)
class Column:
    name: str
    type: ColumnType
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """Rows, each with the position of the event that made it, in the column named by `since`.

    `columns` are the others, in the order in which `Insert` gives them. `touches` says which
    things readers may have cached a row changes: kind and column.
    """

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    since: str = "since"
    unique: tuple[tuple[str, ...], ...] = ()
    indexes: tuple[str, ...] = ()
    touches: tuple[tuple[Touched, str], ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all columns, in the order of a stored row."""
        return (*(column.name for column in self.columns), self.since)


@dataclass(frozen=True)
class RangeTable(Table):
    """Rows that end: besides `since` they have `until`, which is `OPEN` as long as they hold.

    `key` names the columns that tell a row that holds from all others that hold.
    """

    key: tuple[str, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        return (*(column.name for column in self.columns), self.since, "until")


@dataclass(frozen=True)
class CountTable:
    """Numbers per key, changed by deltas alone, so that events may come in any order.

    A key never counted has no row. `position` is that of the newest event counted.
    """

    name: str
    key: str
    counts: tuple[str, ...]
    touches: tuple[tuple[Touched, str], ...] = ()


AnyTable = Table | CountTable


class Insert(Struct, frozen=True, gc=False):
    """A new row; in a `RangeTable` it holds from this event's position on."""

    table: Table
    row: tuple[Any, ...]


class Close(Struct, frozen=True, gc=False):
    """The row that holds under this key ends at this event's position, if there is one."""

    table: RangeTable
    key: tuple[Any, ...]


class Revise(Struct, frozen=True, gc=False):
    """The row that holds under this key ends, and one that differs in these columns begins."""

    table: RangeTable
    key: tuple[Any, ...]
    columns: Mapping[str, Any]


class Blank(Struct, frozen=True, gc=False):
    """In every row that ever was under this key these columns become null: history forgets them."""

    table: RangeTable
    key: tuple[Any, ...]
    columns: tuple[str, ...]


class Add(Struct, frozen=True, gc=False):
    """These numbers are added to the counts of a key, in the order of the table's `counts`."""

    table: CountTable
    key: int
    deltas: tuple[int, ...]


Change = Insert | Close | Revise | Blank | Add
Folded = Sequence[tuple[int, Sequence[Change]]]
"""The changes of some events, each with its event's position, in order."""


class RowMissing(Exception):
    """A change was folded for a row that is not there."""
