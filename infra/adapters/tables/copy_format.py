"""PostgreSQL's binary format for COPY and for arrays of numbers, written many rows at a time."""

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, groupby, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.adapters.tables import binary_arrays
from infra.adapters.tables.binary_arrays import BigintArray, IntegerArray, TextArray
from infra.ports.tables import ColumnType, RangeTable, Table

HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack("!ii", 0, 0)
TRAILER = struct.pack("!h", -1)
NULL = struct.pack("!i", -1)
POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
TEXT_OID = 25
BIGINT_OID = 20

_count = struct.Struct("!h").pack
_length = struct.Struct("!i").pack
_bigint = struct.Struct("!iq").pack
_boolean = struct.Struct("!i?").pack
_array = struct.Struct("!iiIii").pack
_NO_TEXTS = struct.pack("!iiiI", 12, 0, 0, TEXT_OID)

FIXED: dict[ColumnType, tuple[str, int]] = {
    "bigint": (">i8", 8),
    "boolean": (">i1", 1),
    "timestamptz": (">i8", 8),
}
Values = Sequence[Any] | NDArray[np.int64]
Encode = Callable[[Sequence[Values]], bytes]
"""Writes rows that are given as columns."""


def row_encoder(table: Table) -> Encode:
    """A function that writes rows of this table, complete in the order of `table.names`."""
    types: list[ColumnType] = [column.type for column in table.columns]
    nullable = {place for place, column in enumerate(table.columns) if column.nullable}
    types += ["bigint", "bigint"] if isinstance(table, RangeTable) else ["bigint"]
    return column_encoder(types, nullable)


def column_encoder(types: Sequence[ColumnType], nullable: Collection[int] = ()) -> Encode:
    """A function that writes rows of columns of these types, those at some places perhaps null."""
    # Columns of fixed sizes that stand side by side are written together, for all rows at once.
    runs = [
        (is_fixed, list(places))
        for is_fixed, places in groupby(
            range(len(types)), lambda place: types[place] in FIXED and place not in nullable
        )
    ]

    def encode(columns: Sequence[Values]) -> bytes:
        if all(is_fixed for is_fixed, _ in runs):
            return HEADER + _fixed(types, columns, width=len(types)).tobytes() + TRAILER
        pieces: list[Iterable[bytes]] = [repeat(_count(len(types)), len(columns[0]))]
        for is_fixed, places in runs:
            if is_fixed:
                written = _fixed([types[p] for p in places], [columns[p] for p in places])
                pieces.append(_cut(written.tobytes(), written.itemsize))
            else:
                pieces += [_values(types[place], columns[place]) for place in places]
        return HEADER + b"".join(chain.from_iterable(zip(*pieces, strict=True))) + TRAILER

    return encode


def bigints(values: Sequence[int]) -> BigintArray:
    """A one-dimensional array, as a parameter."""
    if not values:
        return BigintArray(struct.pack("!iiI", 0, 0, BIGINT_OID))
    elements = np.empty(len(values), dtype=[("length", ">i4"), ("value", ">i8")])
    elements["length"] = 8
    elements["value"] = values
    return BigintArray(struct.pack("!iiIii", 1, 0, BIGINT_OID, len(values), 1) + elements.tobytes())


def integers(values: Sequence[int]) -> IntegerArray:
    return binary_arrays.integers([binary_arrays.integer(value) for value in values])


def texts(values: Sequence[str]) -> TextArray:
    return binary_arrays.texts([binary_arrays.text(value) for value in values])


def _fixed(
    types: Sequence[ColumnType], columns: Sequence[Values], width: int | None = None
) -> np.ndarray[Any, Any]:
    """These columns of each row, behind the row's `width` if these are all."""
    fields: list[tuple[str, str]] = [] if width is None else [("count", ">i2")]
    for place, kind in enumerate(types):
        fields += [(f"length{place}", ">i4"), (f"value{place}", FIXED[kind][0])]
    table = np.empty(len(columns[0]), dtype=np.dtype(fields))
    if width is not None:
        table["count"] = width
    for place, (kind, column) in enumerate(zip(types, columns, strict=True)):
        values = list(map(_microseconds, column)) if kind == "timestamptz" else column
        table[f"length{place}"] = FIXED[kind][1]
        table[f"value{place}"] = np.array(values, dtype=np.int64)
    return table


def _cut(written: bytes, size: int) -> Iterator[bytes]:
    return (written[start : start + size] for start in range(0, len(written), size))


def _values(kind: ColumnType, values: Values) -> Sequence[bytes]:
    encode = ENCODERS[kind]
    return [NULL if value is None else encode(value) for value in values]


def _encode_bigint(value: int) -> bytes:
    return _bigint(8, value)


def _encode_boolean(value: bool) -> bytes:  # noqa: FBT001
    return _boolean(1, value)


def _encode_text(value: str) -> bytes:
    encoded = value.encode()
    return _length(len(encoded)) + encoded


def _encode_bytea(value: bytes) -> bytes:
    return _length(len(value)) + value


def _encode_timestamptz(value: datetime) -> bytes:
    return _bigint(8, _microseconds(value))


def _microseconds(value: datetime) -> int:
    since = value - POSTGRES_EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _encode_texts(values: Sequence[str]) -> bytes:
    if not values:
        return _NO_TEXTS
    array = _array(1, 0, TEXT_OID, len(values), 1) + b"".join(map(_encode_text, values))
    return _length(len(array)) + array


ENCODERS: dict[ColumnType, Callable[[Any], bytes]] = {
    "bigint": _encode_bigint,
    "boolean": _encode_boolean,
    "text": _encode_text,
    "bytea": _encode_bytea,
    "timestamptz": _encode_timestamptz,
    "text[]": _encode_texts,
}
