"""Events as Parquet files, a segment of the log after the other: the same rows, the same bytes.

A segment is written under `.unfinished` and moved in place when it is whole. What goes into which
file and row group depends on the rows alone, and nothing of the machine or the time gets in.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Struct, inspect
from pyarrow import parquet

from domain.shared.message import tag_of
from infra.formats.event_shapes import EventShapes, Open, camel, data_of, known
from infra.formats.personal_values import held_by
from infra.ports.frames import Unreadable
from infra.ports.log import Recorded

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
ENVELOPE_NAMES = frozenset(one.name for one in ENVELOPE)
POSITION = ENVELOPE[0].name
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
    """One file that is being written: what of it is written so far."""

    place: Path
    schema: Any
    rows: int = 0
    first: int = 0
    last: int = 0
    _writer: Any = None

    def write(self, table: Any) -> None:
        """Write rows, which are in the order of positions, as one row group."""
        if self._writer is None:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            # Little else repeats often enough for a dictionary to be worth its making.
            self._writer = parquet.ParquetWriter(
                self.place, self.schema, compression="zstd", version="2.6", use_dictionary=["type"]
            )
            self.first = table[POSITION][0].as_py()
        self._writer.write_table(table, row_group_size=len(table))
        self.rows += len(table)
        self.last = table[POSITION][-1].as_py()

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
    """Takes events in order; answers each segment when its files are in place.

    What waits for the next row group is kept as it came, and made into columns all at once.
    """

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
        self._waiting: list[Recorded | Unreadable] = []
        self._texts: list[bytes | None] = []
        self._bytes = 0
        self._unreadable = 0

    def add(self, rows: Iterable[Recorded | Unreadable]) -> Sequence[Segment]:
        """Write rows; answers the segments that they have filled."""
        finished = []
        text_of = self._shapes.text
        waiting, texts = self._waiting, self._texts
        for row in rows:
            waiting.append(row)
            if type(row) is Unreadable:
                self._unreadable += 1
                texts.append(None)
            else:
                text = text_of(row.event)  # type: ignore[union-attr]
                texts.append(text)
                self._bytes += len(text)
            whole = self._part.rows + len(waiting) >= FILE_ROWS
            if whole or len(waiting) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
                self._flush()
                if whole:
                    finished.append(self._finish())
                waiting, texts = self._waiting, self._texts
        return finished

    def end(self) -> Sequence[Segment]:
        """Finish the segment that is begun, if any."""
        self._flush()
        segments = [self._finish()] if self._part.rows else []
        shutil.rmtree(self._unfinished, ignore_errors=True)
        return segments

    def _flush(self) -> None:
        """Write what waits as one row group of every file that it goes into."""
        rows, texts = self._waiting, self._texts
        if rows:
            self._part.write(
                pa.Table.from_arrays([*self._envelope(rows), texts_array(texts)], schema=EVENTS)
            )
            if self._typed:
                self._flush_typed(rows)
        self._waiting, self._texts, self._bytes = [], [], 0

    def _envelope(self, rows: Sequence[Recorded | Unreadable]) -> list[Any]:
        """The columns of `ENVELOPE`. Of a row that cannot be read, only its place is known."""
        columns = (
            [row.position for row in rows],
            [row.stream for row in rows],
            [row.version for row in rows],
            list(map(self._tag, rows)),
            *self._circumstances(rows),
        )
        return [pa.array(column, one.type) for column, one in zip(columns, ENVELOPE, strict=True)]

    def _circumstances(self, rows: Sequence[Any]) -> Iterable[list[Any]]:
        """When each was recorded, in which request, and why."""
        try:
            yield [row.recorded_at for row in rows]
            yield [row.correlation_id or None for row in rows]
            yield [row.causation_id or None for row in rows]
        except AttributeError:
            # There is a row among them that cannot be read.
            for name in ("recorded_at", "correlation_id", "causation_id"):
                yield [getattr(row, name, None) or None for row in rows]

    def _tag(self, row: Any) -> str | None:
        if type(row) is Unreadable:
            return row.tag or None
        kind = type(row.event)
        return self._tags.get(kind) or self._tags.setdefault(kind, tag_of(kind))

    def _flush_typed(self, rows: Sequence[Recorded | Unreadable]) -> None:
        places: dict[tuple[type, str], list[Recorded]] = {}
        for row in rows:
            if isinstance(row, Recorded):
                day = row.recorded_at.astimezone(UTC).date().isoformat()
                places.setdefault((type(row.event), day), []).append(row)
        shaped = self._typed_shapes.shaped
        for place, events in places.items():
            part = self._parts.get(place)
            if part is None:
                kind, day = place
                file = self._unfinished / tag_of(kind) / f"{day}.parquet"
                part = self._parts[place] = Part(file, typed_schema(kind))
            data = [
                msgspec.to_builtins(shaped(one.event), builtin_types=(datetime,)) for one in events
            ]
            fields = [one for one in part.schema if one.name not in ENVELOPE_NAMES]
            columns = [
                pa.array([one.get(field.name) for one in data], field.type) for field in fields
            ]
            part.write(
                pa.Table.from_arrays([*self._envelope(events), *columns], schema=part.schema)
            )

    def _finish(self) -> Segment:
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


def texts_array(texts: Sequence[bytes | None]) -> Any:
    """A column of texts: where none is missing, their bytes laid out at once."""
    if None in texts:
        return pa.array(texts, pa.string())
    ends = np.zeros(len(texts) + 1, dtype=np.int32)
    np.cumsum(np.fromiter(map(len, texts), np.int32, len(texts)), out=ends[1:])  # type: ignore[arg-type]
    data = b"".join(texts)  # type: ignore[arg-type]
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(data))


def same(value: Any) -> Any:
    return value


def json_text(value: Any) -> str:
    return msgspec.json.encode(data_of(value)).decode()


_typed_schemas: dict[type, Any] = {}


def typed_schema(event_class: type) -> Any:
    """The envelope's columns, and one for each field of the event."""
    found = _typed_schemas.get(event_class)
    if found is None:
        fields = [one for one in struct_fields(event_class) if one.name not in ENVELOPE_NAMES]
        found = _typed_schemas[event_class] = pa.schema([*ENVELOPE, *fields])
    return found


def struct_fields(struct_class: type) -> list[Any]:
    info = inspect.type_info(struct_class)
    assert isinstance(info, inspect.StructType)
    return [pa.field(camel(one.name), column_type(one.type)) for one in info.fields]


def column_type(kind: inspect.Type) -> Any:
    """The column for values of a type; what has no fixed members is kept as JSON text."""
    match known(kind):
        case inspect.StructType(cls=cls) if (held := held_by(cls)) is not None:
            found = column_type(inspect.type_info(held))
        case inspect.StructType(cls=cls):
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
