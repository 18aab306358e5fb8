"""A folder that an export goes into: what has been asked of it, and which of its files are whole.

`manifest.json` names every finished file. It is replaced after each segment, so that an export that
was killed goes on after the last one; a file that it does not name is made again.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from infra.adapters.archives import parquet_events
from infra.adapters.archives.parquet_events import WRITER, ExportedFile, Segment, sync_folder

MANIFEST = "manifest.json"
FORMAT = 1


class ExportRefused(Exception):
    """The folder holds something else, or is in use."""


class Asked(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which events an export has: both bounds are exclusive. Without a `before`, all there are."""

    after: int = 0
    before: int | None = None
    types: tuple[str, ...] = ()
    typed: bool = False


class Manifest(Struct, kw_only=True, rename="camel"):
    """`complete`: the files hold everything between the bounds. Files stand in log order."""

    asked: Asked
    file_rows: int
    complete: bool = False
    events: int = 0
    first_position: int | None = None
    last_position: int | None = None
    unreadable: int = 0
    segments: tuple[Segment, ...] = ()
    format: int = FORMAT
    writer: str = WRITER

    def count(self) -> None:
        """Bring the totals up to the segments."""
        self.events = sum(one.events.rows for one in self.segments)
        self.unreadable = sum(one.unreadable for one in self.segments)
        self.first_position = self.segments[0].events.first if self.segments else None
        self.last_position = self.segments[-1].events.last if self.segments else None

    @property
    def files(self) -> list[ExportedFile]:
        return [file for one in self.segments for file in (one.events, *one.typed)]


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other exports out of it. Raises `ExportRefused`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ExportRefused(f"{folder} cannot be made: {problem}") from problem
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        raise ExportRefused(f"another export goes into {folder}") from None
    try:
        yield
    finally:
        os.close(opened)


def read_manifest(folder: Path) -> Manifest | None:
    """What the folder holds; None where it is empty. Raises `ExportRefused`."""
    file = folder / MANIFEST
    if not file.exists():
        if any(folder.iterdir()):
            raise ExportRefused(f"{folder} is not empty, and no export")
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Manifest)
    except msgspec.DecodeError as problem:
        raise ExportRefused(f"{file} cannot be read: {problem}") from problem


def write_manifest(folder: Path, manifest: Manifest) -> None:
    manifest.count()
    new = folder / f"{MANIFEST}.new"
    with new.open("wb") as opened:
        opened.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(folder / MANIFEST)
    sync_folder(folder)


def continued(folder: Path, found: Manifest | None, asked: Asked, head: int) -> Manifest:
    """The manifest to go on with. Without a `before`, an export that was not finished is, and one
    that was goes on to the log's present end. Raises `ExportRefused`."""
    before = asked.before
    if before is None:
        before = found.asked.before if found and not found.complete else head + 1
    types = tuple(sorted(set(asked.types)))
    asked = msgspec.structs.replace(asked, before=before, types=types)
    if found is None:
        return Manifest(asked=asked, file_rows=parquet_events.FILE_ROWS)
    written = (found.format, found.file_rows, found.writer)
    if written != (FORMAT, parquet_events.FILE_ROWS, WRITER):
        raise ExportRefused(
            f"{folder} was written in another way (format, rows a file, writer: {written}): export"
            " into another folder"
        )
    widened = msgspec.structs.replace(found.asked, before=before)
    if widened != asked or (before or 0) < (found.asked.before or 0):
        raise ExportRefused(
            f"{folder} holds another export, of {msgspec.json.encode(found.asked).decode()}"
        )
    for file in found.files:
        place = folder / file.name
        if not place.is_file() or place.stat().st_size != file.bytes:
            raise ExportRefused(f"{place} is not as the manifest says: remove {folder}")
    found.complete = found.complete and asked == found.asked
    found.asked = asked
    return found


def remove_unnamed(folder: Path, manifest: Manifest) -> None:
    """Remove files that an export has left which was killed, or that have been replaced."""
    named = {file.name for file in manifest.files}
    for pattern in ("events-*.parquet", "*.v*/day=*/events-*.parquet"):
        for file in folder.glob(pattern):
            if file.relative_to(folder).as_posix() not in named:
                file.unlink()
                with contextlib.suppress(OSError):
                    file.parent.rmdir()
