"""PostgreSQL's binary format for COPY and for arrays of numbers, written many rows at a time."""

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from infra.adapters import binary_arrays
from infra.adapters.binary_arrays import BigintArray, IntegerArray, TextArray
from infra.tables import ColumnType, RangeTable, Table

HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack("!ii", 0, 0)
TRAILER = struct.pack("!h", -1)
NULL = struct.pack("!i", -1)
POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
TEXT_OID = 25
BIGINT_OID = 20

_length = struct.Struct("!i").pack
_bigint = struct.Struct("!iq").pack
_boolean = struct.Struct("!i?").pack
_array = struct.Struct("!iiIii").pack
_NO_TEXTS = struct.pack("!iiiI", 12, 0, 0, TEXT_OID)

FIXED: dict[ColumnType, tuple[str, int]] = {"bigint": (">i8", 8), "boolean": (">i1", 1)}
Encode = Callable[[Sequence[Sequence[Any]]], bytes]


def row_encoder(table: Table) -> Encode:
    """A function that writes rows of this table, complete in the order of `table.names`."""
    types: list[ColumnType] = [column.type for column in table.columns]
    types += ["bigint", "bigint"] if isinstance(table, RangeTable) else ["bigint"]
    return column_encoder(types, nullable=any(column.nullable for column in table.columns))


def column_encoder(types: Sequence[ColumnType], *, nullable: bool = False) -> Encode:
    """A function that writes rows of columns of these types."""
    if nullable or not all(kind in FIXED for kind in types):
        return _rows([ENCODERS[kind] for kind in types])
    return _fixed_rows(types)


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


def _fixed_rows(types: Sequence[ColumnType]) -> Encode:
    fields: list[tuple[str, str]] = [("count", ">i2")]
    for place, kind in enumerate(types):
        fields += [(f"length{place}", ">i4"), (f"value{place}", FIXED[kind][0])]
    shape = np.dtype(fields)

    def encode(rows: Sequence[Sequence[Any]]) -> bytes:
        table = np.empty(len(rows), dtype=shape)
        table["count"] = len(types)
        for place, column in enumerate(zip(*rows, strict=True)):
            table[f"length{place}"] = FIXED[types[place]][1]
            table[f"value{place}"] = np.array(column, dtype=np.int64)
        return HEADER + table.tobytes() + TRAILER

    return encode


def _rows(encoders: Sequence[Callable[[Any], bytes]]) -> Encode:
    count = struct.pack("!h", len(encoders))

    def encode(rows: Sequence[Sequence[Any]]) -> bytes:
        pieces = [HEADER]
        for row in rows:
            pieces.append(count)
            pieces += [
                NULL if value is None else encoder(value)
                for encoder, value in zip(encoders, row, strict=True)
            ]
        pieces.append(TRAILER)
        return b"".join(pieces)

    return encode


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
    return _bigint(8, (value - POSTGRES_EPOCH) // MICROSECOND)


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
