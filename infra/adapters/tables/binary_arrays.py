"""PostgreSQL arrays in binary form, joined from elements that were encoded one by one.

psycopg encodes a list element by element in Python when it is sent. Here the elements are encoded
as they come in, while the server is busy with those before them, and sending only joins them.
"""

import struct
from collections.abc import Sequence

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_length = struct.Struct("!i").pack
_integer = struct.Struct("!ii").pack
_bigint = struct.Struct("!iq").pack
_header = struct.Struct("!iiIii").pack
_empty_header = struct.Struct("!iiI").pack


class _Array(bytes):
    element_oid = 0


class IntegerArray(_Array):
    element_oid = 23


class BigintArray(_Array):
    element_oid = 20


class TextArray(_Array):
    element_oid = 25


class ByteaArray(_Array):
    element_oid = 17


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Buffer) -> Buffer:
        return obj


class _IntegerArrayDumper(_ArrayDumper):
    oid = 1007


class _BigintArrayDumper(_ArrayDumper):
    oid = 1016


class _TextArrayDumper(_ArrayDumper):
    oid = 1009


class _ByteaArrayDumper(_ArrayDumper):
    oid = 1001


def register(connection: psycopg.AsyncConnection) -> None:
    """Let a connection send these arrays as parameters."""
    connection.adapters.register_dumper(IntegerArray, _IntegerArrayDumper)
    connection.adapters.register_dumper(BigintArray, _BigintArrayDumper)
    connection.adapters.register_dumper(TextArray, _TextArrayDumper)
    connection.adapters.register_dumper(ByteaArray, _ByteaArrayDumper)


def text(value: str) -> bytes:
    encoded = value.encode()
    return _length(len(encoded)) + encoded


def bytea(value: bytes) -> bytes:
    return _length(len(value)) + value


def integer(value: int) -> bytes:
    return _integer(4, value)


def bigint(value: int) -> bytes:
    return _bigint(8, value)


def integers(elements: Sequence[bytes]) -> IntegerArray:
    return IntegerArray(_joined(elements, len(elements), IntegerArray.element_oid))


def bigints(runs: Sequence[bytes], count: int | None = None) -> BigintArray:
    return BigintArray(_joined(runs, count, BigintArray.element_oid))


def texts(runs: Sequence[bytes], count: int | None = None) -> TextArray:
    """`runs` are elements, or several of them joined; then `count` says how many in all."""
    return TextArray(_joined(runs, count, TextArray.element_oid))


def byteas(runs: Sequence[bytes], count: int | None = None) -> ByteaArray:
    return ByteaArray(_joined(runs, count, ByteaArray.element_oid))


def _joined(runs: Sequence[bytes], count: int | None, element_oid: int) -> bytes:
    count = len(runs) if count is None else count
    if not count:
        return _empty_header(0, 0, element_oid)
    return _header(1, 0, element_oid, count, 1) + b"".join(runs)
