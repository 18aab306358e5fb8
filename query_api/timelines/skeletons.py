"""Where a timeline's skeleton comes from: kept ready in Redis, else pulled from the read tables.

Both follow the timelines law, so a page is the same whichever answers. Redis fails open: while it
is away, or behind what the caller must not miss, pages are pulled and say that they are degraded.
A timeline that is not kept is pulled, served, and kept from then on.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from operator import ne
from typing import NamedTuple

import numpy as np
import structlog

from infra.formats.packed_timeline import (
    BYTES_PER_SLOT,
    MASK,
    REPOST,
    TIMELINE_MAX,
    Entries,
    Positions,
    brought_since,
    decode,
    merge,
    newest,
)
from infra.http.consistency import Applied
from infra.ports.reads import Pulled, Reads
from infra.ports.timelines import (
    Building,
    PackedTimeline,
    SlotsAsked,
    TimelineReader,
    TimelinesUnavailable,
)
from query_api.timelines.stages import Stages
from query_api.timelines.viewers import CelebritiesUnknown, Viewer

log = structlog.get_logger(__name__)

BEFORE_FOLLOW_MAX = 20
WINDOW_SLACK = 10
"""How many entries more than a page shows are looked at, since some may not be shown."""

LEAP = 1 << 20
"""Redis may have heard of entries that are this much newer than what the tables have."""

FULL_BYTES = BYTES_PER_SLOT * TIMELINE_MAX
QUICK_MAX = REPOST - 2 * LEAP
"""Up to here the slots of a list hold whole positions."""

PATIENCE_SECONDS = 1.0
BUILD_WAIT_SECONDS = 0.5
LOOK_SECONDS = 0.01


class Skeleton(NamedTuple):
    """Candidates, newest first, of the timeline as of `position`.

    `left` are entries by accounts that the reader does not follow any more. `rest` answers the
    same with more candidates, where there may be more.
    """

    position: int
    candidates: Entries
    degraded: bool = False
    left: frozenset[int] = frozenset()
    rest: "Callable[[], Awaitable[Skeleton]] | None" = None


class Place(NamedTuple):
    """Where a page begins: below the entry `last` of the timeline as of `position`."""

    position: int
    last: int


class Skeletons:
    """Answers skeletons for pages. `tables` is how far the read tables are."""

    def __init__(
        self,
        reads: Reads,
        timelines: TimelineReader | None,
        tables: Applied,
        newest_position: Callable[[], Awaitable[int]],
        stages: Stages,
    ) -> None:
        self._reads = reads
        self._timelines = timelines
        self._tables = tables
        self._newest_position = newest_position
        self._stages = stages

    def ask(self, viewer: Viewer, asked: SlotsAsked) -> bool:
        """Ask for a kept timeline that needs no merging; False where it is not that simple."""
        timelines = self._timelines
        if timelines is None or self._tables.position > QUICK_MAX:
            return False
        celebrities = timelines.known_celebrities
        if celebrities and (viewer.celebrities is not celebrities or viewer.followed):
            return False
        return timelines.ask(viewer.number, asked)

    async def first(self, viewer: Viewer, limit: int, after: int) -> Skeleton:
        """The newest candidates; nothing up to the position `after` may be missing."""
        if self._timelines is None:
            return await self._pull(viewer)
        try:
            if after and not await self._has_reached(self._timelines, after):
                return await self._pull(viewer, degraded=True)
            packed = await self._read(self._timelines, viewer)
            if packed is None:
                return await self._build(self._timelines, viewer)
        except TimelinesUnavailable:
            return await self._pull(viewer, degraded=True)
        self._stages.pages["pushed"] += 1
        return self._window(packed, viewer, limit + WINDOW_SLACK)

    async def below(self, viewer: Viewer, place: Place) -> Skeleton:
        """The candidates below a place of the timeline as it was then."""
        if self._timelines is None:
            return await self._pull_below(viewer, place)
        try:
            packed = await self._read(self._timelines, viewer)
        except TimelinesUnavailable:
            return await self._pull_below(viewer, place, degraded=True)
        # One that was built since then knows other follows, or less of what is old.
        if packed is None or packed.position > place.position:
            return await self._pull_below(viewer, place)
        # A grave does not tell what has gone there.
        if any(has_graves(slots) for slots in (packed.slots, *packed.celebrities.values())):
            return await self._pull_below(viewer, place)
        positions, posts = self._decoded(packed, viewer)
        start = int(np.searchsorted(-positions, -place.last, side="right"))
        found = Entries(positions[start:].tolist(), posts[start:].tolist())
        self._stages.pages["pushed"] += 1
        # Of a full list the end may have made room for what came since.
        full = any(
            len(slots) >= FULL_BYTES for slots in (packed.slots, *packed.celebrities.values())
        )
        rest = partial(self._pull_below, viewer, place) if full else None
        return Skeleton(place.position, found, rest=rest)

    # Kept timelines.

    async def _read(self, timelines: TimelineReader, viewer: Viewer) -> PackedTimeline | None:
        try:
            return await timelines.read(viewer.number, viewer.celebrities_among)
        except CelebritiesUnknown as unknown:
            others = unknown.celebrities
            since = await self._reads.followed_since(viewer.number, others)
            viewer.learn_celebrities(others, since)
            return await self._read(timelines, viewer)

    def _window(self, packed: PackedTimeline, viewer: Viewer, count: int) -> Skeleton:
        """The newest few, which is all that most pages look at."""
        now = self._now(packed)
        if packed.celebrities or now >= REPOST:
            return self._whole(packed, viewer)
        found = newest(packed.slots, count, now)
        older = older_than(found, packed.slots)
        if older and not are_newest(found, older):
            return self._whole(packed, viewer)
        position = max(packed.position, found.positions[0]) if found.positions else packed.position
        whole = partial(self._whole_later, packed, viewer) if older else None
        return Skeleton(position, found, rest=whole)

    def _whole(self, packed: PackedTimeline, viewer: Viewer) -> Skeleton:
        positions, posts = self._decoded(packed, viewer)
        first = int(positions[0]) if len(positions) else 0
        found = Entries(positions.tolist(), posts.tolist())
        return Skeleton(max(packed.position, first), found)

    async def _whole_later(self, packed: PackedTimeline, viewer: Viewer) -> Skeleton:
        return self._whole(packed, viewer)

    def _decoded(self, packed: PackedTimeline, viewer: Viewer) -> tuple[Positions, Positions]:
        now = self._now(packed)
        lists = [decode(packed.slots, now)]
        for celebrity, slots in packed.celebrities.items():
            # A reader who is a celebrity has an own list too, all of which is theirs.
            since = viewer.followed.get(celebrity, 0)
            lists.append(brought_since(decode(slots, now), since, BEFORE_FOLLOW_MAX))
        return merge(lists)

    def _now(self, packed: PackedTimeline) -> int:
        return max(packed.position, self._tables.position) + LEAP

    async def _has_reached(self, timelines: TimelineReader, position: int) -> bool:
        """Wait, not for long, until what is kept is at least as new as that."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        while min((await timelines.applied()).values(), default=position) < position:
            if loop.time() > deadline:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return True

    # The pull path.

    async def _build(self, timelines: TimelineReader, viewer: Viewer) -> Skeleton:
        """Pull a timeline that is not kept, serve it, and keep it."""
        building = await timelines.begin(viewer.number)
        if building is None or not await self._tables.wait(building.applied, BUILD_WAIT_SECONDS):
            return await self._pull(viewer)
        found = await self._reads.pull(viewer.number, self._tables.position)
        await self._finish(timelines, building, found)
        self._stages.pages["pulled"] += 1
        return skeleton_of(found)

    async def _finish(self, timelines: TimelineReader, building: Building, found: Pulled) -> None:
        try:
            entries = [(row.position, row.post_position) for row in found.entries]
            await timelines.finish(building, found.position, entries)
        except TimelinesUnavailable as error:
            # The page is right all the same; the next one begins anew.
            log.info("timeline.not_kept", error=str(error))

    async def _pull(self, viewer: Viewer, *, degraded: bool = False) -> Skeleton:
        found = await self._reads.pull(viewer.number, await self._newest_position())
        self._stages.pages["degraded" if degraded else "pulled"] += 1
        return skeleton_of(found, degraded=degraded)

    async def _pull_below(
        self, viewer: Viewer, place: Place, *, degraded: bool = False
    ) -> Skeleton:
        found = await self._reads.pull(viewer.number, place.position)
        self._stages.pages["degraded" if degraded else "pulled"] += 1
        entries = [row for row in found.entries if row.position < place.last]
        return skeleton_of(Pulled(place.position, entries), degraded=degraded)


def skeleton_of(found: Pulled, *, degraded: bool = False) -> Skeleton:
    rows = found.entries
    entries = Entries([row.position for row in rows], [row.post_position for row in rows])
    left = frozenset(row.position for row in rows if not row.followed)
    return Skeleton(found.position, entries, degraded, left)


def older_than(found: Entries, slots: bytes) -> bytes:
    """The slots before those of the entries found."""
    count = len(found.positions)
    if found.posts is not found.positions:
        count += sum(map(ne, found.positions, found.posts))
    return slots[: -BYTES_PER_SLOT * count] if count else slots


def are_newest(found: Entries, older: bytes) -> bool:
    """Whether the entries found are newer than all that stands before them in their list.

    Partitions are not applied in step, so a list may end with many entries that came late. What is
    no position in `older` says how far back a post stands, which is less than its entry's position,
    or is larger than all of them: then the answer is False.
    """
    if not found.positions:
        return False
    return int((np.frombuffer(older, "<u4") & MASK).max()) < found.positions[-1]


def has_graves(slots: bytes) -> bool:
    return not np.frombuffer(slots, "<u4").all()
