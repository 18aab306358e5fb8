"""What read models keep: tables of rows with the log positions in which they held, and counts.

A fold answers changes to these tables; a `TableStore` writes them, with how far it has got.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, Protocol

from msgspec import Struct

ColumnType = Literal["bigint", "text", "bytea", "boolean", "timestamptz", "text[]"]
Touched = Literal["posts", "members", "relations", "sessions", "products"]


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

    `key` names the columns that tell a row that holds from all others that hold. Only the rows of
    a `revisable` table may be changed by `Revise`, `Blank` and `Forget`.
    """

    key: tuple[str, ...] = ()
    revisable: bool = False

    @cached_property
    def names(self) -> tuple[str, ...]:
        return (*(column.name for column in self.columns), self.since, "until")


@dataclass(frozen=True)
class CountTable:
    """Numbers per key, changed by deltas alone, so that events may come in any order.

    A key never counted has no row. `position` is that of the newest event counted. `stream`: how
    the name of the one stream begins that holds all events counted for a key, before its id.
    """

    name: str
    key: str
    counts: tuple[str, ...]
    touches: tuple[tuple[Touched, str], ...] = ()
    stream: str = ""


AnyTable = Table | CountTable


def columns_of(table: AnyTable) -> tuple[Column, ...]:
    """Every column, in the order of a stored row."""
    if isinstance(table, CountTable):
        return tuple(Column(name, "bigint") for name in (table.key, *table.counts, "position"))
    known = {column.name: column for column in table.columns}
    return tuple(known.get(name) or Column(name, "bigint") for name in table.names)


def key_of(table: AnyTable) -> Sequence[str]:
    """The columns that tell a row from all others."""
    return (table.key,) if isinstance(table, CountTable) else table.primary_key


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


class Forget(Struct, frozen=True, gc=False):
    """Every row that ever was with this value in this column is removed, as if it had never been:
    what it held was made from texts that nobody may read any more."""

    table: RangeTable
    column: str
    value: int


class Add(Struct, frozen=True, gc=False):
    """These numbers are added to the counts of a key, in the order of the table's `counts`."""

    table: CountTable
    key: int
    deltas: tuple[int, ...]


Change = Insert | Close | Revise | Blank | Forget | Add
Folded = Sequence[tuple[int, Sequence[Change]]]
"""The changes of some events, each with its event's position, in order."""


@dataclass(frozen=True)
class Part:
    """Some of the rows of a read model: those with a value in any of these columns, by table.

    With a `modulus`, those whose values leave `value` when divided by it. Tables not named have no
    rows in it; the columns are of those that every change to a row names.
    """

    columns: Mapping[str, Sequence[str]]
    value: int
    modulus: int | None = None

    def holds(self, value: int) -> bool:
        return value == self.value if self.modulus is None else value % self.modulus == self.value


class RowMissing(Exception):
    """A change was folded for a row that is not there."""


class StoreUnavailable(Exception):
    """The store cannot be reached or cannot write now. Nothing was written; try again."""


class DeadLetter(Struct, frozen=True, kw_only=True):
    """An event that a projection could not fold (`parked`), or that came after one of its key
    (`waiting`); once mended it is `retried`, given up it is `discarded` with a reason why.

    Its key stays set aside as long as a letter of it is parked or waiting.
    """

    projection: str
    key: str
    partition: int
    position: int
    stream: str
    version: int = 0
    tag: str
    state: bytes
    status: Literal["parked", "waiting", "retried", "discarded"]
    error: str = ""
    trace: str = ""
    attempts: int = 0
    why: str = ""
    id: int = 0
    build: int = 0
    parked_at: datetime | None = None
    settled_at: datetime | None = None


class TableTransaction(Protocol):
    """One transaction over the tables of some projections. It holds the lock on the checkpoints
    that it was opened for, so that nobody else applies to these partitions meanwhile."""

    checkpoints: Mapping[str, Mapping[int, int]]
    """How far each projection's partitions are; no other transaction can move them now."""

    parked: Mapping[str, set[str]]
    """The keys that are set aside, by projection."""

    async def write(self, projection: str, folded: Folded) -> None:
        """Write changes. Whatever it raises has spoiled the transaction."""
        ...

    async def attempt(self, projection: str, folded: Folded) -> Exception | None:
        """Write changes, or answer what was wrong with them and leave everything as it was.

        Raises `StoreUnavailable` where that says nothing about the changes.
        """
        ...

    async def park(self, letters: Sequence[DeadLetter]) -> None: ...

    async def letters(self, projection: str, key: str) -> Sequence[DeadLetter]:
        """The letters of a key that are parked or waiting, in the order of the log."""
        ...

    async def settle(self, letter: DeadLetter) -> None:
        """Store a letter's new status, error, trace, attempts and reason."""
        ...

    def advance(self, projection: str, positions: Mapping[int, int]) -> None:
        """Move checkpoints when this transaction commits."""
        ...


class TableStore(Protocol):
    """Where projections keep their tables. All methods raise `StoreUnavailable`."""

    async def checkpoints(self) -> Mapping[str, Mapping[int, int]]:
        """How far each partition of each projection has been applied."""
        ...

    def transaction(
        self, projections: Sequence[str], partitions: Sequence[int]
    ) -> AbstractAsyncContextManager[TableTransaction]:
        """Commits at the end of the block, or writes nothing."""
        ...

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """All letters, oldest first."""
        ...

    async def dead_letter(self, letter_id: int) -> DeadLetter | None: ...


class ReadModel(Protocol):
    """What a store must know of a projection to keep its tables."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def tables(self) -> tuple[AnyTable, ...]: ...
    @property
    def partitions(self) -> range: ...
