"""Brings a database to the form that this version of Plaza expects.

Each file beside this module is one migration, applied once, in the order of the names. A file that
has been released is never edited: what changes is a file more.
"""

import hashlib
from dataclasses import dataclass
from importlib import resources

import psycopg

from infra.adapters.connections import connected

LOCK = 7_881_702_245_168
"""Held while migrating, so that processes that start together do not step on each other."""

LOCK_WAIT_SECONDS = 60


class DatabaseMismatch(Exception):
    """The database was brought to its form by migrations that differ from this version's."""


@dataclass(frozen=True)
class Migration:
    number: int
    name: str
    statements: str

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.statements.encode()).digest()


def migrations() -> list[Migration]:
    """All there are, in order."""
    files = [file for file in resources.files(__name__).iterdir() if file.name.endswith(".sql")]
    return [
        Migration(int(file.name[:4]), file.name[5:-4], file.read_text("utf-8"))
        for file in sorted(files, key=lambda file: file.name)
    ]


async def migrate(postgres_url: str) -> None:
    """Apply what is missing; harmless when repeated, and when several processes do it at once.

    Raises `DatabaseMismatch` when an applied migration is not the one of this version. Migrations
    of a newer version are left alone, so that an older process can still start beside it.
    """
    async with connected(postgres_url, "plaza-migrations") as connection:
        await connection.execute(f"SET lock_timeout = '{LOCK_WAIT_SECONDS}s'")
        await connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        # The session's end gives the lock back, also when a migration fails.
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS public.migrations (number integer PRIMARY KEY,"
            " name text NOT NULL, digest bytea NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        rows = await connection.execute("SELECT number, digest FROM public.migrations")
        applied: dict[int, bytes] = dict(await rows.fetchall())
        for migration in migrations():
            if migration.number not in applied:
                await _apply(connection, migration)
            elif applied[migration.number] != migration.digest:
                raise DatabaseMismatch(
                    f"migration {migration.number} ({migration.name}) was applied in another form"
                )


async def _apply(connection: psycopg.AsyncConnection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.statements.encode())
        await connection.execute(
            "INSERT INTO public.migrations (number, name, digest) VALUES (%s, %s, %s)",
            [migration.number, migration.name, migration.digest],
        )
