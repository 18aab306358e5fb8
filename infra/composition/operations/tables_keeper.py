"""The read tables of one projection, as operators see them: `ports.keepers.Keeper`, assembled."""

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.adapters.tables.postgres_builds import PostgresBuilds
from infra.composition.operations.projections_overview import overview_of_tables
from infra.composition.operations.verifying import remake, verify
from infra.composition.services.idle_thread import in_idle_thread
from infra.composition.settings import Settings
from infra.ports.keepers import NoSuchKey, Progress, Rebuilt, Verified, Wishes, id_in_key
from infra.ports.tables import AnyTable, CountTable, Part, RangeTable
from infra.runtime.projecting.projection import Projection
from infra.runtime.rebuilding.rebuild import Rebuilder, load

HOUR_SECONDS = 3600.0
ALSO_CALLED = {
    "member": ("follower_id", "followee_id", "viewer_id", "target_id", "author_id", "seller_id"),
}
"""Columns that hold ids of a kind by other names than its own."""


class TablesKeeper:
    def __init__(self, settings: Settings, projection: Projection) -> None:
        self._settings = settings
        self._projection = projection

    @property
    def name(self) -> str:
        return self._projection.name

    async def overview(self) -> Sequence[Mapping[str, Any]]:
        rows = await overview_of_tables(self._settings)
        return [row for row in rows if row["name"] == self.name]

    async def verify(self, progress: Progress, *, repair: bool = False) -> Verified:
        return await verify(self._settings, self._projection, progress, repair=repair)

    async def rebuild(self, progress: Progress, wishes: Wishes) -> Rebuilt:
        if wishes.in_place:
            return await in_place(self._settings, self._projection, progress, wishes)
        async with rebuilder(self._settings, self._projection, progress) as (opened, projection):
            (done,) = await opened.rebuild([projection], wishes, compare=True)
        return done

    async def rebuild_key(self, key: str, progress: Progress) -> int:
        kind, _, text = key.partition(":")
        named = {
            table.name: columns
            for table in self._projection.tables
            if (columns := columns_that_hold(table, kind))
        }
        if not named:
            kinds = sorted({*kinds_of(self._projection)})
            raise NoSuchKey(f"{self.name} keeps nothing under {kind!r}; only {', '.join(kinds)}")
        value = id_in_key(text)
        return await remake(self._settings, self._projection, Part(named, value), progress)

    async def switch(self, build: int | None, progress: Progress) -> int:
        async with rebuilder(self._settings, self._projection, progress) as (opened, projection):
            return await opened.switch(projection, build)


def key_columns(table: AnyTable) -> Sequence[str]:
    """The columns that every change to a row names."""
    if isinstance(table, CountTable):
        return (table.key,)
    if isinstance(table, RangeTable):
        return table.key
    return [column.name for column in table.columns if column.type == "bigint"]


def columns_that_hold(table: AnyTable, kind: str) -> list[str]:
    """Those by which rows belong to something of this kind."""
    wanted = {f"{kind}_id", *ALSO_CALLED.get(kind, ())}
    return [name for name in key_columns(table) if name in wanted]


def kinds_of(projection: Projection) -> Iterable[str]:
    for table in projection.tables:
        for name in key_columns(table):
            if name.endswith("_id"):
                also = [kind for kind, names in ALSO_CALLED.items() if name in names]
                yield also[0] if also else name.removesuffix("_id")


async def in_place(
    settings: Settings, projection: Projection, progress: Progress, wishes: Wishes
) -> Rebuilt:
    """Have what is served as the log gives it, by rewriting the rows that differ at once."""
    found = await verify(settings, projection, progress, repair=wishes.accept_different)
    written = wishes.accept_different or not found.different
    return Rebuilt(name=projection.name, build=found.build, switched=written, found=found)


@contextlib.asynccontextmanager
async def rebuilder(
    settings: Settings, projection: Projection, progress: Progress
) -> AsyncIterator[tuple[Rebuilder, Projection]]:
    """Who rebuilds, and the projection able to fold. It is loaded in an idle thread."""
    url = settings.postgres_url
    builds = PostgresBuilds(url)

    async def loads(
        projections: Sequence[Projection], made: Mapping[str, int], end: int | None
    ) -> int:
        async def loaded() -> int:
            async with log_and_keys(url) as (log, keyring):
                folding = [one.with_texts(keyring) for one in projections]
                return await load(folding, made, builds, log, progress, end=end)

        return await in_idle_thread(loaded)

    async with log_and_keys(url) as (log, keyring):
        keep_seconds = settings.retired_build_hours * HOUR_SECONDS
        yield (
            Rebuilder(builds, log, progress, keep_seconds=keep_seconds, loads=loads),
            projection.with_texts(keyring),
        )


@contextlib.asynccontextmanager
async def log_and_keys(url: str) -> AsyncIterator[tuple[PostgresEventLog, PostgresKeyring]]:
    """What folding needs."""
    async with contextlib.AsyncExitStack() as stack:
        log = await PostgresEventLog.open(url)
        stack.push_async_callback(log.close)
        keyring = await PostgresKeyring.connect(url)
        stack.push_async_callback(keyring.close)
        yield log, keyring
