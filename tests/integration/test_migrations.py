"""Bringing a database to its form, by several processes at once and again and again."""

import asyncio

import psycopg
import pytest

from infra.adapters import migrations
from infra.adapters.log.plaza_recorder import PlazaRecorder
from infra.adapters.migrations import DatabaseMismatch, Migration, migrate
from tests.integration.test_recorder import datastore


async def test_processes_that_start_together_migrate_once(postgres_url: str) -> None:
    await asyncio.gather(*(migrate(postgres_url) for _ in range(8)))
    with psycopg.connect(postgres_url) as connection:
        numbers = connection.execute("SELECT number FROM public.migrations ORDER BY 1").fetchall()
    assert [number for (number,) in numbers] == [one.number for one in migrations.migrations()]


async def test_a_migration_in_another_form_is_refused(postgres_url: str) -> None:
    await migrate(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE public.migrations SET digest = 'other' WHERE number = 1")
    with pytest.raises(DatabaseMismatch, match="migration 1 "):
        await migrate(postgres_url)


async def test_a_migration_of_a_newer_version_is_left_alone(postgres_url: str) -> None:
    await migrate(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("INSERT INTO public.migrations VALUES (9999, 'later', 'digest')")
        before = connection.execute("SELECT * FROM public.migrations ORDER BY 1").fetchall()
    await migrate(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT * FROM public.migrations ORDER BY 1").fetchall() == before


async def test_a_migration_that_fails_leaves_nothing(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Migration(9998, "broken", "CREATE TABLE public.half (); SELECT 1 / 0")
    known = migrations.migrations()
    monkeypatch.setattr(migrations, "migrations", lambda: [*known, broken])
    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        (half,) = connection.execute("SELECT to_regclass('public.half')").fetchone() or ("none",)
        assert half is None


def test_numbers_of_migrations_are_unique_and_in_order() -> None:
    numbers = [one.number for one in migrations.migrations()]
    assert numbers == sorted(set(numbers))


COLUMNS = """
    SELECT column_name, data_type, is_nullable, column_default IS NOT NULL
    FROM information_schema.columns WHERE table_schema = %s AND table_name = 'events'
    ORDER BY ordinal_position
"""
INDEXES = """
    SELECT replace(indexdef, schemaname || '.', '') FROM pg_indexes
    WHERE schemaname = %s AND tablename = 'events' ORDER BY 1
"""
OPTIONS = "SELECT reloptions FROM pg_class WHERE oid = to_regclass(%s || '.events')"


async def test_the_log_is_the_table_that_the_library_would_make(postgres_url: str) -> None:
    await migrate(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA library")
        with datastore(postgres_url, schema="library", originator_id_type="text") as store:
            PlazaRecorder(store).create_table()
        for query in (COLUMNS, INDEXES, OPTIONS):
            ours = connection.execute(query, ["log"]).fetchall()
            assert ours == connection.execute(query, ["library"]).fetchall()
