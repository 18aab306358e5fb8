"""What a backup holds of the database, and how it gets out of it and in again.

That is what cannot be computed from anything else: the log, the vault, what idempotent commands
were answered, and how far processes have got, with what they set aside. Read tables, timelines,
search and topics are computed again. Rows travel in PostgreSQL's binary COPY format.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import psycopg
from msgspec import Struct
from psycopg import sql

from infra.adapters.archives.backup_places import Packing, Place, PlaceFailed, Unpacking
from infra.adapters.connections import PARAMETERS

SEGMENT_EVENTS = 250_000
EVENTS = ("originator_id", "originator_version", "topic", "state", "notification_id")


EVERY = sql.SQL("")
PROCESSES = sql.SQL(" WHERE build = 0")


class Kept(NamedTuple):
    """A table whose rows a backup holds, those that fit the condition."""

    name: str
    condition: sql.SQL = EVERY
    secret: bool = False
    """Whether it belongs with the keys, apart from everything else."""


KEPT = (
    Kept("vault.person_keys", secret=True),
    Kept("vault.credentials", secret=True),
    Kept("vault.secrets", secret=True),
    Kept("vault.payment_secrets", secret=True),
    # Answers may quote what members wrote, readable.
    Kept("log.answers", secret=True),
    Kept("public.checkpoints", PROCESSES),
    Kept("public.dead_letters", PROCESSES),
)
COMPUTED = frozenset({"log.moments", "public.projection_builds", "public.relay"})
"""Tables beside those that are computed, or made by the version that runs."""

MADE_AT_START = frozenset({"public.migrations"})


class Piece(Struct, frozen=True, kw_only=True, rename="camel"):
    """A finished file: its bytes and SHA-256 as it is stored."""

    file: str
    rows: int
    bytes: int
    sha256: str


class Segment(Piece, frozen=True, kw_only=True, rename="camel"):
    """A run of the log."""

    first: int
    last: int


class TableFile(Piece, frozen=True, kw_only=True, rename="camel"):
    table: str
    columns: tuple[str, ...]
    secret: bool


class Damaged(Exception):
    """A file is not as the backup says."""


class NotEmpty(Exception):
    """The database has a log of its own, which nothing may be written over."""


@contextlib.contextmanager
def connected(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(
        postgres_url, autocommit=True, application_name="plaza-backup", **PARAMETERS
    ) as connection:
        yield connection


def one(connection: psycopg.Connection[Any], query: str, parameters: Sequence[Any] = ()) -> Any:
    row = connection.execute(query, parameters).fetchone()
    return None if row is None else row[0]


# Out of the database.


def head_of(connection: psycopg.Connection[Any]) -> int:
    query = "SELECT coalesce(max(notification_id), 0) FROM log.events"
    return int(one(connection, query))


def mark_of(connection: psycopg.Connection[Any], position: int) -> str:
    """What tells the event at a position from that of any other log."""
    query = """
        SELECT encode(sha256(originator_id::bytea || state), 'hex')
        FROM log.events WHERE notification_id = %s
    """
    return str(one(connection, query, [position]) or "")


def migrations_of(connection: psycopg.Connection[Any]) -> tuple[int, ...]:
    rows = connection.execute("SELECT number FROM public.migrations ORDER BY number")
    return tuple(row[0] for row in rows)


def next_segment(
    connection: psycopg.Connection[Any], place: Place, after: int, head: int
) -> Segment | None:
    """Write the next run of the log to a file; None where there is no more up to the head."""
    found = connection.execute(
        "SELECT min(notification_id), max(notification_id) FROM (SELECT notification_id"
        " FROM log.events WHERE notification_id > %s AND notification_id <= %s"
        " ORDER BY notification_id LIMIT %s) AS run HAVING count(*) > 0",
        [after, head, SEGMENT_EVENTS],
    ).fetchone()
    if found is None:
        return None
    first, last = found
    query = sql.SQL(
        "COPY (SELECT {} FROM log.events WHERE notification_id > {} AND notification_id <= {}"
        " ORDER BY notification_id) TO STDOUT (FORMAT binary)"
    ).format(names(EVENTS), after, last)
    file = f"log/{first:020}-{last:020}.copy.zst"
    rows, size, digest = copied_out(connection, place, file, query)
    return Segment(file=file, first=first, last=last, rows=rows, bytes=size, sha256=digest)


def copied_table(
    connection: psycopg.Connection[Any], place: Place, kept: Kept, mark: str
) -> TableFile:
    """Write the rows of a table to a file, whose name bears a mark of the backup."""
    columns = columns_of(connection, kept.name)
    query = sql.SQL("COPY (SELECT {} FROM {}{}) TO STDOUT (FORMAT binary)").format(
        names(columns),
        sql.Identifier(*kept.name.split(".")),
        kept.condition,
    )
    folder = "keys" if kept.secret else "tables"
    file = f"{folder}/{kept.name}-{mark}.copy.zst"
    rows, size, digest = copied_out(connection, place, file, query)
    return TableFile(
        table=kept.name,
        columns=columns,
        file=file,
        rows=rows,
        bytes=size,
        sha256=digest,
        secret=kept.secret,
    )


def copied_out(
    connection: psycopg.Connection[Any], place: Place, name: str, query: sql.Composed
) -> tuple[int, int, str]:
    with place.write(name) as file, connection.cursor() as cursor:
        packing = Packing(file)
        with cursor.copy(query) as copy:
            for piece in copy:
                packing.add(piece)
        packing.end()
        return cursor.rowcount, packing.bytes, packing.sha256


def columns_of(connection: psycopg.Connection[Any], table: str) -> tuple[str, ...]:
    found = connection.execute(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema || '.' || table_name = %s ORDER BY ordinal_position",
        [table],
    )
    return tuple(row[0] for row in found)


def names(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


# And in again.


def copied_in(
    connection: psycopg.Connection[Any],
    place: Place,
    table: str,
    columns: Sequence[str],
    found: Piece,
) -> None:
    """Load a file into a table. Raises `Damaged` where it is not what was written."""
    query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        sql.Identifier(*table.split(".")), names(columns)
    )
    try:
        with place.read(found.file) as file, connection.cursor() as cursor:
            unpacking = Unpacking(file)
            with cursor.copy(query) as copy:
                for piece in unpacking.pieces():
                    copy.write(piece)
            compare(found, unpacking.sha256, cursor.rowcount)
    except (PlaceFailed, psycopg.DataError) as problem:
        raise Damaged(f"{found.file}: {problem}") from problem


def compare(found: Piece, sha256: str, rows: int) -> None:
    if sha256 != found.sha256:
        raise Damaged(f"{found.file} is not what was written: its SHA-256 is {sha256}")
    if rows != found.rows:
        raise Damaged(f"{found.file} has {rows} rows, not {found.rows}")


def checked(place: Place, found: Piece) -> None:
    """Read a file and compare it with what was written. Raises `Damaged`."""
    try:
        with place.read(found.file) as file:
            unpacking = Unpacking(file)
            for _ in unpacking.pieces():
                pass
            compare(found, unpacking.sha256, found.rows)
    except PlaceFailed as problem:
        raise Damaged(f"{found.file}: {problem}") from problem


def check_empty(connection: psycopg.Connection[Any]) -> None:
    if head_of(connection):
        raise NotEmpty("the database has events: a backup is restored into an empty one")


def forget_all(connection: psycopg.Connection[Any]) -> None:
    """Empty what is about to be loaded: services that were started make secrets of their own."""
    tables = sql.SQL(", ").join(
        sql.Identifier(*name.split("."))
        for name in [*(kept.name for kept in KEPT), "log.moments", "public.relay"]
    )
    connection.execute(sql.SQL("TRUNCATE {}").format(tables))


def cut_off(connection: psycopg.Connection[Any], position: int) -> None:
    """Take out what came after a position, and begin to count behind what is left."""
    connection.execute("DELETE FROM log.events WHERE notification_id > %s", [position])
    connection.execute("DELETE FROM log.answers WHERE position > %s", [position])
    connection.execute("DELETE FROM public.dead_letters WHERE position > %s", [position])
    connection.execute("UPDATE public.checkpoints SET position = least(position, %s)", [position])
    for table, column in (("person_keys", "person_id"), ("credentials", "member_id")):
        connection.execute(
            sql.SQL(
                "DELETE FROM vault.{} AS kept WHERE NOT EXISTS (SELECT FROM log.events"
                " WHERE originator_id = 'member:' || kept.{})"
            ).format(sql.Identifier(table), sql.Identifier(column))
        )


def count_on(connection: psycopg.Connection[Any]) -> None:
    """Have the next event, and the next letter, come after those that were loaded."""
    for sequence, column, table in (
        ("log.events_notification_id_seq", "notification_id", "log.events"),
        ("public.dead_letters_id_seq", "id", "public.dead_letters"),
    ):
        connection.execute(
            sql.SQL("SELECT setval({}, greatest(1, max({}))) FROM {}").format(
                sql.Literal(sequence), sql.Identifier(column), sql.Identifier(*table.split("."))
            )
        )


Progress = Callable[[str, int, int], None]
"""Told what is done, the position reached, and the one it goes to."""
