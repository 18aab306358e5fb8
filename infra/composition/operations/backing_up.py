"""Backups of all that cannot be computed again, and restoring them up to any position, assembled.

A backup grows: each one adds what the log has got since the one before, and replaces the rest. The
manifest is written last and names every file, so that a backup that is broken off leaves the one
before it as it was.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psycopg
from msgspec import Struct

from infra.adapters.archives import database_copy
from infra.adapters.archives.backup_places import S3, Place, PlaceFailed, place_at
from infra.adapters.archives.database_copy import (
    EVENTS,
    KEPT,
    Damaged,
    Piece,
    Progress,
    Segment,
    TableFile,
    connected,
)
from infra.adapters.archives.export_folder import held
from infra.adapters.migrations import migrate, migrations
from infra.composition.settings import Settings
from infra.composition.supervision.own_database import database

MANIFEST = "manifest.json"
FORMAT = 1


class BackupRefused(Exception):
    """This cannot be backed up there, or restored from there."""


class Backup(Struct, kw_only=True, rename="camel"):
    """`position` is the last one that it holds; `mark` tells its event from any other log's."""

    made_at: datetime
    position: int
    mark: str
    migrations: tuple[int, ...]
    segments: tuple[Segment, ...] = ()
    tables: tuple[TableFile, ...] = ()
    format: int = FORMAT

    @property
    def events(self) -> int:
        return sum(one.rows for one in self.segments)

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.files)

    @property
    def files(self) -> Sequence[Piece]:
        return [*self.segments, *self.tables]


@dataclass(frozen=True)
class Places:
    """Where the log is kept, and where the keys are: they may be kept apart."""

    log: Place
    keys: Place

    @classmethod
    def at(cls, address: str, keys: str | None) -> "Places":
        log = place_at(address)
        return cls(log, log if keys is None else place_at(keys))

    def of(self, table: TableFile) -> Place:
        return self.keys if table.secret else self.log


def nothing_told(_what: str, _reached: int, _end: int) -> None: ...


def back_up(
    settings: Settings, address: str, keys: str | None = None, progress: Progress = nothing_told
) -> Backup:
    """Bring the backup at an address up to the log's present end.

    Raises `BackupRefused`, `PlaceFailed`, and what `own_database.database` and psycopg raise.
    """
    places = Places.at(address, keys)
    with alone(address), database(settings) as url:
        found = read_manifest(places.log) if places.log.exists(MANIFEST) else None
        with connected(url) as connection:
            check_same_log(connection, found)
            head = database_copy.head_of(connection)
            segments = list(found.segments) if found else []
            reached = segments[-1].last if segments else 0
            while segment := database_copy.next_segment(connection, places.log, reached, head):
                segments.append(segment)
                reached = segment.last
                progress("backing up", reached, head)
            # The vault comes after the log: who is in the log has a key in it, unless erased since.
            made_at = datetime.now(UTC)
            mark = f"{made_at:%Y%m%dT%H%M%S%f}"
            made = Backup(
                made_at=made_at,
                position=reached,
                mark=database_copy.mark_of(connection, reached),
                migrations=database_copy.migrations_of(connection),
                segments=tuple(segments),
                tables=tuple(
                    database_copy.copied_table(
                        connection, places.keys if kept.secret else places.log, kept, mark
                    )
                    for kept in KEPT
                ),
            )
        with places.log.write(MANIFEST) as file:
            file.write(msgspec.json.format(msgspec.json.encode(made)) + b"\n")
        # Keys destroyed since the last backup are gone from this one, too.
        for old in found.tables if found else ():
            places.of(old).remove(old.file)
    return made


def check_same_log(connection: psycopg.Connection, found: Backup | None) -> None:
    if found and found.mark != database_copy.mark_of(connection, found.position):
        raise BackupRefused(
            f"this is the backup of another log, up to position {found.position}: back up to"
            " another place"
        )


def read_manifest(place: Place) -> Backup:
    try:
        with place.read(MANIFEST) as file:
            found = msgspec.json.decode(file.read(), type=Backup)
    except PlaceFailed as problem:
        raise BackupRefused(f"there is no backup: {problem}") from problem
    except msgspec.DecodeError as problem:
        raise BackupRefused(f"{MANIFEST} cannot be read: {problem}") from problem
    if found.format != FORMAT:
        raise BackupRefused(f"this backup is of format {found.format}, not {FORMAT}")
    if newer := set(found.migrations) - {one.number for one in migrations()}:
        raise BackupRefused(f"this backup was made by a newer version (migrations {newer})")
    return found


def check(address: str, keys: str | None = None, progress: Progress = nothing_told) -> Backup:
    """Read all of a backup and compare it with its checksums. Raises `Damaged` too."""
    places = Places.at(address, keys)
    found = read_manifest(places.log)
    for segment in found.segments:
        database_copy.checked(places.log, segment)
        progress("checking", segment.last, found.position)
    for table in found.tables:
        database_copy.checked(places.of(table), table)
    return found


def restore(
    settings: Settings,
    address: str,
    keys: str | None = None,
    at: int | None = None,
    progress: Progress = nothing_told,
) -> tuple[Backup, int]:
    """Fill an empty database with a backup, up to a position or its end; answers the backup and the
    position that the log is at.

    All of it is there or nothing, whatever stops it. Raises `NotEmpty`, `Damaged`, `BackupRefused`,
    `PlaceFailed`, and what `own_database.database` and psycopg raise.
    """
    places = Places.at(address, keys)
    found = read_manifest(places.log)
    if at is not None and at > found.position:
        raise BackupRefused(f"the backup ends at position {found.position}")
    end = found.position if at is None else at
    with database(settings, new=True) as url:
        asyncio.run(migrate(url))
        with connected(url) as connection:
            with connection.transaction():
                database_copy.check_empty(connection)
                load(connection, places, found, end, progress)
                reached = database_copy.head_of(connection)
            connection.execute("ANALYZE log.events")
    return found, reached


def load(
    connection: psycopg.Connection, places: Places, found: Backup, end: int, progress: Progress
) -> None:
    database_copy.forget_all(connection)
    for segment in segments_up_to(found.segments, end):
        database_copy.copied_in(connection, places.log, "log.events", EVENTS, segment)
        progress("restoring", min(segment.last, end), end)
    for table in found.tables:
        database_copy.copied_in(connection, places.of(table), table.table, table.columns, table)
    if end < found.position:
        database_copy.cut_off(connection, end)
    database_copy.count_on(connection)
    if end == found.position and database_copy.mark_of(connection, end) != found.mark:
        raise Damaged(f"what was loaded does not end in the event at {end}")


def segments_up_to(segments: Sequence[Segment], end: int) -> list[Segment]:
    return [one for one in segments if one.first <= end]


@contextlib.contextmanager
def alone(address: str) -> Iterator[None]:
    """Keep other backups out of a folder. A bucket has nothing to hold: its user sees to that."""
    with contextlib.nullcontext() if address.startswith(S3) else held(Path(address)):
        yield
