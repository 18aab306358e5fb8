"""Checks kept timelines against the pull path, and makes them anew one by one.

A kept timeline is a cache of what can be pulled. Both are looked at as of the position up to which
every partition has been pushed. Who follows somebody in that moment has a timeline that is about to
be dropped: only what goes on being different is.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from infra.formats.packed_timeline import (
    GRAVE,
    TIMELINE_MAX,
    UNKNOWN,
    Positions,
    brought_since,
    decode,
)
from infra.ports.reads import Pulled
from infra.ports.timelines import CelebritiesOf, PackedTimeline, TimelineReader

BEFORE_FOLLOW_MAX = 20
LEAP = 1 << 20
TRIES = 3
PAUSE_SECONDS = 0.3
TABLES = ("graph", "posts")
TABLES_SECONDS = 5.0
LOOK_SECONDS = 0.02


class Tables(Protocol):
    """What is asked of the read tables; see `infra.ports.reads.Reads`."""

    async def pull(self, member_id: int, position: int) -> Pulled: ...

    async def followed_since(
        self, member_id: int, others: Collection[int]
    ) -> Mapping[int, int]: ...

    async def checkpoints(
        self, projections: Collection[str]
    ) -> Mapping[str, Mapping[int, int]]: ...


class Lists(Protocol):
    """What is done to the store besides."""

    async def forget(self, member_ids: Collection[int]) -> None:
        """Keep these members' timelines no longer, until they are begun again."""
        ...


Entry = tuple[int, int]
"""An entry's position, and that of the post which it brings."""


class Unlike(NamedTuple):
    """A kept timeline that is not what is pulled: its entries, newest first."""

    member_id: int
    position: int
    kept: Sequence[Entry]
    pulled: Sequence[Entry]


class TimelineCheck:
    """Compares, and makes anew, the timeline of one member at a time."""

    def __init__(self, timelines: TimelineReader, lists: Lists, tables: Tables) -> None:
        self._timelines = timelines
        self._lists = lists
        self._tables = tables

    async def check(self, member_id: int) -> Unlike | bool:
        """What is wrong with a member's timeline; else whether there is one.

        Raises `TimelinesUnavailable` and `ReadsUnavailable`.
        """
        found: Unlike | bool = False
        for left in reversed(range(TRIES)):
            found = await self._look(member_id)
            if isinstance(found, bool) or not left:
                break
            await asyncio.sleep(PAUSE_SECONDS)
        return found

    async def rebuild(self, member_id: int) -> bool:
        """Drop a timeline, and keep what is pulled now. Pages are pulled meanwhile.

        False where that was left to the next page: somebody else began it, or the tables are
        behind.
        """
        await self._lists.forget([member_id])
        building = await self._timelines.begin(member_id)
        if building is None:
            return False
        position = await self._reached(building.applied)
        if position is None:
            return False
        pulled = await self._tables.pull(member_id, position)
        entries = [(row.position, row.post_position) for row in pulled.entries]
        return await self._timelines.finish(building, position, entries)

    async def _look(self, member_id: int) -> Unlike | bool:
        applied = await self._timelines.applied()
        celebrities = await self._timelines.celebrities()
        since = await self._tables.followed_since(member_id, celebrities)
        followed: CelebritiesOf = lambda known: [one for one in since if one in known]  # noqa: E731
        packed = await self._timelines.read(member_id, followed)
        if packed is None or not applied:
            return False
        low = min(applied.values())
        if packed.position > low:
            # Built as of a later moment than all partitions have come to: it is right by itself.
            return True
        await self._reached(low)
        kept = entries_of(packed, since, max(*applied.values(), packed.position) + LEAP)
        rows = (await self._tables.pull(member_id, low)).entries
        pulled = [(row.position, row.post_position) for row in rows]
        posts = dict(pulled)
        # What is buried, or stands too far back to say, is of the post that the tables name.
        settled = [
            (position, posts.get(position, post) if post in {UNKNOWN, GRAVE} else post)
            for position, post in kept
            if position <= low
        ]
        # A full list has room for less of what is old, by as much as has come since.
        expected = pulled[: len(settled)] if len(kept) >= TIMELINE_MAX else pulled
        if settled == expected:
            return True
        return Unlike(member_id, low, settled, expected)

    async def _reached(self, position: int) -> int | None:
        """Where the tables are, once that is at least there; None if they do not get there."""
        deadline = asyncio.get_running_loop().time() + TABLES_SECONDS
        while True:
            found = await self._tables.checkpoints(TABLES)
            reached = min(min(partitions.values()) for partitions in found.values())
            if reached >= position:
                return reached
            if asyncio.get_running_loop().time() > deadline:
                return None
            await asyncio.sleep(LOOK_SECONDS)


def entries_of(packed: PackedTimeline, since: Mapping[int, int], now: int) -> list[Entry]:
    """All entries, newest first; those in graves too, since they count."""
    lists: list[tuple[Positions, Positions]] = [decode(packed.slots, now)]
    for celebrity, slots in packed.celebrities.items():
        entries = decode(slots, now)
        lists.append(brought_since(entries, since.get(celebrity, 0), BEFORE_FOLLOW_MAX))
    found: dict[int, int] = {}
    for positions, posts in lists:
        for position, post in zip(positions.tolist(), posts.tolist(), strict=True):
            # As pages are merged: what the first list says of an entry holds.
            found.setdefault(position, post)
    return sorted(found.items(), reverse=True)[:TIMELINE_MAX]
