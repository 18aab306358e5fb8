"""Events as Parquet files, a segment of the log after the other: the same rows, the same bytes.

A segment is written under `.unfinished` and moved in place when it is whole. What goes into which
file and row group depends on the rows alone, and nothing of the machine or the time gets in.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from msgspec import Struct, inspect
from pyarrow import parquet

from domain.shared.message import tag_of
from domain.shared.personal import Personal
from infra.event_shapes import EventShapes, Open, camel, data_of, known
from infra.ports import Recorded, Unreadable

FILE_ROWS = 100_000
GROUP_ROWS = 10_000
GROUP_BYTES = 8 * 1024 * 1024
HASH_BYTES = 1024 * 1024
UNFINISHED = ".unfinished"
WRITER = f"pyarrow {pa.__version__}"

MOMENT = pa.timestamp("us", tz="UTC")
ENVELOPE = (
    pa.field("position", pa.int64(), nullable=False),
    pa.field("stream", pa.string(), nullable=False),
    pa.field("version", pa.int64(), nullable=False),
    pa.field("type", pa.string()),
    pa.field("recordedAt", MOMENT),
    pa.field("correlationId", pa.string()),
    pa.field("causationId", pa.string()),
)
EVENTS = pa.schema([*ENVELOPE, pa.field("data", pa.string())])


class ExportedFile(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A finished file. `type` and `day` are those of a typed one."""

    name: str
    rows: int
    first: int
    last: int
    bytes: int
    sha256: str
    type: str = ""
    day: str = ""


class Segment(Struct, frozen=True, kw_only=True, rename="camel"):
    """A run of the log: its file, and the typed files of the same events."""

    events: ExportedFile
    typed: tuple[ExportedFile, ...] = ()
    unreadable: int = 0

    @property
    def full(self) -> bool:
        return self.events.rows >= FILE_ROWS


@dataclass
class Part:
    """One file that is being written: its rows until the next row group, and counts so far."""

    place: Path
    schema: Any
    waiting: list[Any] = field(default_factory=list)
    rows: int = 0
    first: int = 0
    last: int = 0
    _writer: Any = None

    def add(self, position: int, row: Any) -> None:
        self.waiting.append(row)
        self.rows += 1
        self.last = position
        if self.rows == 1:
            self.first = position

    def flush(self, table: Any) -> None:
        """Write what waits as one row group."""
        if self._writer is None:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            self._writer = parquet.ParquetWriter(
                self.place, self.schema, compression="zstd", version="2.6"
            )
        self._writer.write_table(table, row_group_size=max(len(table), 1))
        self.waiting = []

    def finish(self, target: Path, folder: Path, **more: str) -> ExportedFile:
        """Close the file, make sure that it is on the disk, and move it in place."""
        self._writer.close()
        size, digest = synced_and_hashed(self.place)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.place.replace(target)
        sync_folder(target.parent)
        return ExportedFile(
            name=target.relative_to(folder).as_posix(),
            rows=self.rows,
            first=self.first,
            last=self.last,
            bytes=size,
            sha256=digest,
            **more,
        )


class SegmentWriter:
    """Takes events in order; answers each segment when its files are in place."""

    def __init__(self, folder: Path, personal: Open, *, typed: bool) -> None:
        self._folder = folder
        self._unfinished = folder / UNFINISHED
        self._shapes = EventShapes(personal)
        self._typed_shapes = EventShapes(personal, moment=same, mapping=json_text)
        self._typed = typed
        self._tags: dict[type, str] = {}
        self._start()

    def _start(self) -> None:
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self._part = Part(self._unfinished / "events.parquet", EVENTS)
        self._parts: dict[tuple[type, str], Part] = {}
        self._bytes = 0
        self._unreadable = 0

    def add(self, rows: Iterable[Recorded | Unreadable]) -> Sequence[Segment]:
        """Write rows; answers the segments that they have filled."""
        finished = []
        for row in rows:
            if isinstance(row, Unreadable):
                self._unreadable += 1
                self._part.add(row.position, unreadable_row(row))
            else:
                self._add_event(row)
            if len(self._part.waiting) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
                self._flush()
            if self._part.rows >= FILE_ROWS:
                finished.append(self._finish())
        return finished

    def end(self) -> Sequence[Segment]:
        """Finish the segment that is begun, if any."""
        segments = [self._finish()] if self._part.rows else []
        shutil.rmtree(self._unfinished, ignore_errors=True)
        return segments

    def _add_event(self, one: Recorded) -> None:
        event = one.event
        kind = type(event)
        text = self._shapes.text(event)
        self._bytes += len(text)
        envelope = (
            one.position,
            one.stream,
            one.version,
            self._tags.get(kind) or self._tags.setdefault(kind, tag_of(kind)),
            one.recorded_at,
            one.correlation_id or None,
            one.causation_id or None,
        )
        self._part.add(one.position, (*envelope, text))
        if self._typed:
            data = msgspec.to_builtins(self._typed_shapes.shaped(event), builtin_types=(datetime,))
            place = (kind, one.recorded_at.astimezone(UTC).date().isoformat())
            self._typed_part(place).add(one.position, (envelope, data))

    def _typed_part(self, place: tuple[type, str]) -> Part:
        part = self._parts.get(place)
        if part is None:
            kind, day = place
            file = self._unfinished / tag_of(kind) / f"{day}.parquet"
            part = self._parts[place] = Part(file, typed_schema(kind))
        return part

    def _flush(self) -> None:
        part = self._part
        if part.waiting:
            columns = zip(*part.waiting, strict=True)
            arrays = [
                pa.array(column, one.type) for column, one in zip(columns, EVENTS, strict=True)
            ]
            part.flush(pa.Table.from_arrays(arrays, schema=EVENTS))
        for one in self._parts.values():
            if one.waiting:
                rows = [data | named(envelope) for envelope, data in one.waiting]
                one.flush(pa.Table.from_pylist(rows, schema=one.schema))
        self._bytes = 0

    def _finish(self) -> Segment:
        self._flush()
        name = f"events-{self._part.first}-{self._part.last}.parquet"
        typed = [
            part.finish(
                self._folder / tag_of(kind) / f"day={day}" / name,
                self._folder,
                type=tag_of(kind),
                day=day,
            )
            for (kind, day), part in sorted(
                self._parts.items(), key=lambda item: (tag_of(item[0][0]), item[0][1])
            )
        ]
        segment = Segment(
            events=self._part.finish(self._folder / name, self._folder),
            typed=tuple(typed),
            unreadable=self._unreadable,
        )
        self._start()
        return segment


def unreadable_row(row: Unreadable) -> tuple[Any, ...]:
    return (row.position, row.stream, row.version, row.tag or None, None, None, None, None)


def named(envelope: Sequence[Any]) -> dict[str, Any]:
    return {one.name: value for one, value in zip(ENVELOPE, envelope, strict=True)}


def same(value: Any) -> Any:
    return value


def json_text(value: Any) -> str:
    return msgspec.json.encode(data_of(value)).decode()


_typed_schemas: dict[type, Any] = {}


def typed_schema(event_class: type) -> Any:
    """The envelope's columns, and one for each field of the event."""
    found = _typed_schemas.get(event_class)
    if found is None:
        taken = {one.name for one in ENVELOPE}
        fields = [one for one in struct_fields(event_class) if one.name not in taken]
        found = _typed_schemas[event_class] = pa.schema([*ENVELOPE, *fields])
    return found


def struct_fields(struct_class: type) -> list[Any]:
    info = inspect.type_info(struct_class)
    assert isinstance(info, inspect.StructType)
    return [pa.field(camel(one.name), column_type(one.type)) for one in info.fields]


def column_type(kind: inspect.Type) -> Any:
    """The column for values of a type; what has no fixed members is kept as JSON text."""
    match known(kind):
        case inspect.StructType(cls=cls) if cls is not Personal:
            found = pa.struct(struct_fields(cls))
        case inspect.IntType():
            found = pa.int64()
        case inspect.FloatType():
            found = pa.float64()
        case inspect.BoolType():
            found = pa.bool_()
        case inspect.DateTimeType():
            found = MOMENT
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            found = pa.list_(column_type(item))
        case _:
            found = pa.string()
    return found


def synced_and_hashed(file: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        while chunk := opened.read(HASH_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Make sure that names in a folder are on the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
