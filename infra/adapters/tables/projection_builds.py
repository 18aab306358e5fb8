"""Builds of read tables: each in a schema of its own, one of them live, another perhaps being made.

Readers name tables without a schema; their search path names the live builds. So a projection is
built again beside the one being served, and a switch is one transaction. It also renames the schema
of what was served before: whoever still looks there finds nothing, and looks the path up again.

A build is `building` until its tables are loaded and indexed, `built` until it is served, `live`,
and `retired` once another is served. Only what is not retired has checkpoints, and can be written.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from infra.adapters.tables.table_making import (
    apply_deferred,
    create_deferred,
    create_table,
    deferred_name,
    index_statements,
    is_deferrable,
)
from infra.ports.frames import CHANGES_CHANNEL
from infra.ports.keepers import Build
from infra.ports.tables import ReadModel, StoreUnavailable

Connection = psycopg.AsyncConnection[Any]

BULK_SETTINGS = """
    SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on;
    SET LOCAL work_mem = '128MB'; SET LOCAL maintenance_work_mem = '256MB';
    SET LOCAL statement_timeout = 0
"""

CHECKPOINTS = """
    SELECT partition, position FROM public.checkpoints WHERE projection = %s AND build = %s
"""
NOT_APPLIED = """
    SELECT position FROM public.dead_letters
    WHERE projection = %s AND build = %s AND status <> 'retried'
"""
TURN = "SELECT pg_advisory_xact_lock(7881702245170)"
"""Whoever makes or switches builds holds this lock, so that processes that start together do not
make the same one."""


RETIRED = "_retired"

RETIRE = """
    UPDATE public.projection_builds AS b SET status = 'retired', retired_at = now(), positions =
        coalesce((SELECT jsonb_object_agg(c.partition, c.position) FROM public.checkpoints c
                  WHERE c.projection = b.name AND c.build = b.build), '{}')
    WHERE b.name = %s AND b.status = 'live' RETURNING b.build
"""
REVIVE = """
    INSERT INTO public.checkpoints (projection, build, partition, position)
    SELECT b.name, b.build, p.key::integer, p.value::bigint
    FROM public.projection_builds b CROSS JOIN jsonb_each_text(b.positions) AS p
    WHERE b.name = %s AND b.build = %s
"""


def schema_name(projection: str, build: int) -> str:
    return f"{projection}_b{build}"


async def live_builds(connection: Connection) -> dict[str, tuple[int, int]]:
    """The build that is being served and its version, by projection."""
    rows = await connection.execute(
        "SELECT name, build, version FROM public.projection_builds WHERE status = 'live'"
    )
    return {name: (build, version) for name, build, version in await rows.fetchall()}


async def search_path(connection: Connection) -> str:
    """Where readers find the tables that are served now."""
    schemas = [schema_name(name, b) for name, (b, _) in (await live_builds(connection)).items()]
    return ", ".join([*sorted(schemas), "public"])


async def prepare(connection: Connection, projections: Iterable[ReadModel]) -> dict[str, int]:
    """Make empty, live tables for projections that have none; answers the live builds.

    Raises `StoreUnavailable` where what is live was made by another version of the projection.
    """
    async with connection.transaction():
        await connection.execute(TURN)
        live = await live_builds(connection)
        for projection in projections:
            if projection.name not in live:
                build = await create(connection, projection)
                await index(connection, projection, build)
                await make_live(connection, projection.name, build)
                live[projection.name] = (build, projection.version)
            elif live[projection.name][1] != projection.version:
                raise StoreUnavailable(
                    f"{projection.name} is live in version {live[projection.name][1]}; this"
                    f" process folds version {projection.version}"
                )
    return {name: build for name, (build, _) in live.items()}


async def create(connection: Connection, projection: ReadModel, code: str = "") -> int:
    """Make empty tables without any index, beside those that are live; answers their build."""
    rows = await connection.execute(
        "INSERT INTO public.projection_builds (name, build, version, status, code)"
        " SELECT %s, coalesce(max(build), 0) + 1, %s, 'building', %s"
        " FROM public.projection_builds WHERE name = %s RETURNING build",
        [projection.name, projection.version, code, projection.name],
    )
    row = await rows.fetchone()
    assert row is not None
    build = int(row[0])
    schema = schema_name(projection.name, build)
    await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    for table in projection.tables:
        await connection.execute(create_table(schema, table))
    await connection.execute(
        "INSERT INTO public.checkpoints (projection, build, partition, position)"
        " SELECT %s, %s, partition, 0 FROM unnest(%s::integer[]) AS partition",
        [projection.name, build, list(projection.partitions)],
    )
    return build


async def defer(connection: Connection, projection: ReadModel, build: int) -> None:
    """Get a build ready for `complete`: what cannot be applied without indexes is kept beside."""
    schema = schema_name(projection.name, build)
    for table in projection.tables:
        if is_deferrable(table):
            await connection.execute(create_deferred(schema, table))
        else:
            for statement in index_statements(schema, table):
                await connection.execute(statement)


async def complete(connection: Connection, projection: ReadModel, build: int) -> None:
    """Apply what was kept beside the tables of a build, and index them."""
    schema = schema_name(projection.name, build)
    # Whole tables are read here, once.
    await connection.execute(BULK_SETTINGS)
    for table in projection.tables:
        if not is_deferrable(table):
            continue
        await connection.execute(apply_deferred(schema, table))
        kept_beside = sql.Identifier(schema, deferred_name(table))
        await connection.execute(sql.SQL("DROP TABLE {}").format(kept_beside))
        for statement in index_statements(schema, table):
            await connection.execute(statement)
        name = sql.Identifier(schema, table.name)
        await connection.execute(sql.SQL("ANALYZE {}").format(name))
    await _set_status(connection, projection.name, build, "built")


async def index(connection: Connection, projection: ReadModel, build: int) -> None:
    """Add the keys and indexes that the tables of a build are read and changed by."""
    schema = schema_name(projection.name, build)
    for table in projection.tables:
        for statement in index_statements(schema, table):
            await connection.execute(statement)


async def make_live(connection: Connection, name: str, build: int) -> None:
    """Serve this build from now on. The one served before is retired: nobody can write it any more,
    and no reader finds it."""
    rows = await connection.execute(RETIRE, [name])
    for (old,) in await rows.fetchall():
        await connection.execute(
            "DELETE FROM public.checkpoints WHERE projection = %s AND build = %s", [name, old]
        )
        schema = schema_name(name, old)
        await _rename(connection, schema, schema + RETIRED)
    await _set_status(connection, name, build, "live")
    await connection.execute(
        "SELECT pg_notify(%s, json_build_object('projection', %s::text, 'build', %s::integer,"
        " 'positions', json_build_object(), 'everything', true)::text)",
        [CHANGES_CHANNEL, name, build],
    )


async def revive(connection: Connection, name: str, build: int) -> None:
    """Make a retired build one that can be brought up to date, and be served again."""
    schema = schema_name(name, build)
    await _rename(connection, schema + RETIRED, schema)
    await connection.execute(REVIVE, [name, build])
    await connection.execute(
        "UPDATE public.projection_builds SET retired_at = NULL, positions = DEFAULT"
        " WHERE name = %s AND build = %s",
        [name, build],
    )
    await _set_status(connection, name, build, "built")


async def builds_of(connection: Connection, name: str) -> list[Build]:
    """All builds of a projection, the one that was begun or retired last first."""
    rows = await connection.execute(
        "SELECT build, version, status, code,"
        " extract(epoch FROM now() - coalesce(retired_at, made_at))::float8"
        " FROM public.projection_builds WHERE name = %s"
        " ORDER BY coalesce(retired_at, made_at) DESC, build DESC",
        [name],
    )
    return [Build(*row) for row in await rows.fetchall()]


async def raise_unless(connection: Connection, name: str, build: int, status: str) -> None:
    """Raise `StoreUnavailable` where somebody else has done something with a build meanwhile."""
    builds = await builds_of(connection, name)
    found = next((one.status for one in builds if one.number == build), "gone")
    if found != status:
        raise StoreUnavailable(f"build {build} of {name} is {found}: somebody else rebuilds it")


async def _set_status(connection: Connection, name: str, build: int, status: str) -> None:
    await connection.execute(
        "UPDATE public.projection_builds SET status = %s WHERE name = %s AND build = %s",
        [status, name, build],
    )


async def _rename(connection: Connection, schema: str, name: str) -> None:
    statement = sql.SQL("ALTER SCHEMA {} RENAME TO {}")
    await connection.execute(statement.format(sql.Identifier(schema), sql.Identifier(name)))


async def drop(connection: Connection, name: str, build: int) -> None:
    """Remove a build with its tables, checkpoints and dead letters."""
    schema = schema_name(name, build)
    for one in (schema, schema + RETIRED):
        dropping = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(one))
        await connection.execute(dropping)
    for statement in (
        "DELETE FROM public.checkpoints WHERE projection = %s AND build = %s",
        "DELETE FROM public.dead_letters WHERE projection = %s AND build = %s",
        "DELETE FROM public.projection_builds WHERE name = %s AND build = %s",
    ):
        await connection.execute(statement, [name, build])


async def overview(connection: Connection) -> Sequence[Mapping[str, Any]]:
    """Every build: its status, its least checkpoint, and how many letters are set aside."""
    rows = await connection.execute(
        "SELECT name, build, version, status, made_at, coalesce("
        " (SELECT min(position) FROM public.checkpoints c"
        "   WHERE c.projection = b.name AND c.build = b.build),"
        " (SELECT min(value::bigint) FROM jsonb_each_text(b.positions))),"
        " (SELECT count(*) FROM public.dead_letters d WHERE d.projection = b.name"
        "   AND d.build = b.build AND d.status IN ('parked', 'waiting'))"
        " FROM public.projection_builds b ORDER BY name, build"
    )
    names = ("name", "build", "version", "status", "madeAt", "position", "parked")
    return [dict(zip(names, row, strict=True)) for row in await rows.fetchall()]
