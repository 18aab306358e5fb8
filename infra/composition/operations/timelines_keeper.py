"""Home timelines in Redis, as operators see them: `infra.ports.keepers.Keeper`, assembled."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain.shared.identifiers import id_text
from infra.adapters.connections import connected
from infra.adapters.reads.postgres_reads import PostgresReads
from infra.adapters.timelines.redis_timeline_reader import RedisTimelineReader
from infra.adapters.timelines.redis_timelines import RedisTimelines
from infra.composition.operations.projections_overview import with_lag
from infra.composition.services.tasks import TIMELINES
from infra.composition.settings import Settings
from infra.ports.keepers import (
    EXAMPLES_MAX,
    CannotSwitch,
    Different,
    NoSuchKey,
    NotServed,
    Progress,
    Rebuilt,
    Verified,
    Wishes,
    id_in_key,
)
from infra.ports.reads import ReadsUnavailable
from infra.ports.tables import StoreUnavailable
from infra.ports.timelines import TimelinesUnavailable
from infra.runtime.timelines.timeline_check import TimelineCheck, Unlike

CONNECT_SECONDS = 5.0
VERSION = 1
SHOWN_MAX = 10
"""So many entries of a timeline that differ are shown."""


@dataclass(frozen=True)
class Opened:
    store: RedisTimelines
    reader: RedisTimelineReader
    check: TimelineCheck


class TimelinesKeeper:
    """Timelines are made anew one by one: a page sees the old one, or pulls, or sees the new."""

    name = TIMELINES

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def overview(self) -> Sequence[Mapping[str, Any]]:
        try:
            async with opened(self._settings) as parts:
                applied = await parts.reader.applied()
        except (NotServed, TimelinesUnavailable):
            return []
        build = {
            "name": self.name,
            "build": 1,
            "version": VERSION,
            "status": "live",
            "position": min(applied.values(), default=0),
            "parked": 0,
        }
        async with connected(self._settings.postgres_url, "plaza-overview") as connection:
            return [await with_lag(connection, build)]

    async def verify(self, progress: Progress, *, repair: bool = False) -> Verified:
        async with opened(self._settings) as parts:
            members = sorted(await parts.store.everybody())
            position = min((await parts.reader.applied()).values(), default=0)
            documents = repaired = 0
            unlike: list[Unlike] = []
            for count, member in enumerate(members):
                found = await parts.check.check(member)
                documents += found is not False
                if isinstance(found, Unlike):
                    unlike.append(found)
                    if repair:
                        repaired += 1
                        await parts.check.rebuild(member)
                progress("checking", count + 1, len(members))
        return Verified(
            name=self.name,
            documents=documents,
            different=len(unlike),
            examples=[example(one) for one in unlike[:EXAMPLES_MAX]],
            build=1,
            version=VERSION,
            position=position,
            repaired=repaired,
        )

    async def rebuild(self, progress: Progress, wishes: Wishes) -> Rebuilt:
        """One by one; `anew`: forget all of them, and have each built when it is read next."""
        async with opened(self._settings) as parts:
            if wishes.anew:
                kept = await parts.store.load()
                applied = await parts.reader.applied()
                await parts.store.adopt(kept.epoch if kept else "", applied)
                return Rebuilt(name=self.name, build=1, switched=True)
            members = sorted(await parts.store.everybody())
            for count, member in enumerate(members):
                if await parts.check.check(member) is not False:
                    await parts.check.rebuild(member)
                progress("rebuilding", count + 1, len(members))
        return Rebuilt(name=self.name, build=1, switched=True)

    async def rebuild_key(self, key: str, progress: Progress) -> int:
        kind, _, text = key.partition(":")
        member = id_in_key(text)
        if kind != "member":
            raise NoSuchKey(f"{self.name} are kept under member:… only")
        async with opened(self._settings) as parts:
            done = await parts.check.rebuild(member)
        progress("rebuilding", 1, 1)
        return int(done)

    async def switch(self, build: int | None, progress: Progress) -> int:  # noqa: ARG002
        raise CannotSwitch(f"{self.name} have one build, of which each is made anew by itself")


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Opened]:
    """The store, and who checks it. Raises `NotServed` and `TimelinesUnavailable`."""
    if not settings.redis_url:
        raise NotServed("no Redis is set, and so no timelines are kept")
    async with contextlib.AsyncExitStack() as stack:
        reads = PostgresReads(settings.postgres_url, connections_max=2)
        stack.push_async_callback(reads.close)
        store = RedisTimelines(settings.redis_url)
        stack.push_async_callback(store.close)
        await store.open()
        reader = RedisTimelineReader(settings.redis_url)
        stack.push_async_callback(reader.close)
        await reader.open()
        for one in (store, reader):
            if not await one.wait_until_reachable(CONNECT_SECONDS):
                raise TimelinesUnavailable("Redis cannot be reached")
        if await store.load() is None:
            raise NotServed("no timelines are kept yet")
        try:
            yield Opened(store, reader, TimelineCheck(reader, store, reads))
        except ReadsUnavailable as error:
            raise StoreUnavailable(str(error)) from error


def example(unlike: Unlike) -> Different:
    """The entries that only one of both has, each with the position of the post it brings."""
    member = {"member": id_text(unlike.member_id), "position": unlike.position}
    kept, pulled = set(unlike.kept), set(unlike.pulled)
    return Different(
        place="timeline",
        computed={
            **member,
            "entries": len(unlike.pulled),
            "only here": sorted(pulled - kept, reverse=True)[:SHOWN_MAX],
        },
        served={
            **member,
            "entries": len(unlike.kept),
            "only here": sorted(kept - pulled, reverse=True)[:SHOWN_MAX],
        },
    )
