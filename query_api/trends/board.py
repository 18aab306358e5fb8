"""The boards of what trends: now, as of a moment, and tags as they are typed."""

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from domain.shared.text import case_folded
from infra.http.consistency import Applied
from infra.ports.discovery import Demand, TagCount, TagUses, Trend
from infra.ports.log import Clock
from infra.ports.reads import ReadsUnavailable
from query_api.caches.kept import Kept
from query_api.trends.live_tags import LiveTags, board_at

TOPICS_MAX = 100
TAGS_MAX = 20_000
"""So many tags of the last 24 hours are offered while typing, the weightiest."""

FILL_SECONDS = 1.0
"""So long a request waits after a restart; then it is answered from what has been read by then."""

PAST_BOARDS_MAX = 2
PAST_SECONDS = 10.0
"""A board of the past is read whole each time, on connections that others need too."""

LAST = "\U0010ffff"
"""Sorts after every character that a tag may have."""


class Typed:
    """Tags, found by their beginnings."""

    def __init__(self, trends: Sequence[Trend]) -> None:
        self._counts = {trend.name: trend.people for trend in trends}
        self._sorted = sorted(self._counts)

    def prefix(self, prefix: str, limit: int) -> list[TagCount]:
        first = bisect_left(self._sorted, prefix)
        last = bisect_left(self._sorted, prefix + LAST)
        found = [TagCount(tag, self._counts[tag]) for tag in self._sorted[first:last]]
        found.sort(key=lambda one: (-one.count, one.tag))
        return found[:limit]


class Ranked(NamedTuple):
    """`complete`: everything that counts was read, and just now."""

    trends: Sequence[Trend]
    complete: bool


class Board:
    """`infra.ports.discovery.TagReads`, and the topics of now or of a moment."""

    def __init__(self, uses: TagUses, applied: Applied, clock: Clock) -> None:
        self._uses = uses
        self._live = LiveTags(uses, clock)
        self._topics = Kept(self._find_topics, applied)
        self._typed = Kept(self._find_typed, applied)
        self._past = asyncio.Semaphore(PAST_BOARDS_MAX)

    async def now(self, position: int = 0) -> Ranked:
        """Nothing up to the position is missing, if it is complete. Raises `ReadsUnavailable`."""
        filled = await self._live.filled(FILL_SECONDS)
        trends = await self._topics.get(position)
        return Ranked(trends, filled and not self._topics.failing)

    async def at(self, moment: datetime, position: int) -> Sequence[Trend]:
        """As of a position. Raises `ReadsUnavailable`."""
        try:
            async with asyncio.timeout(PAST_SECONDS), self._past:
                return await board_at(self._uses, moment, position, TOPICS_MAX)
        except TimeoutError:
            raise ReadsUnavailable("a board of the past took too long") from None

    async def prefix(self, prefix: str, limit: int, position: int = 0) -> Sequence[TagCount]:
        folded = case_folded(prefix).removeprefix("#")
        await self._live.filled(FILL_SECONDS)
        return (await self._typed.get(position)).prefix(folded, limit)

    async def _find_topics(self) -> Sequence[Trend]:
        return await self._live.ranked(TOPICS_MAX)

    async def _find_typed(self) -> Typed:
        trends = await self._live.ranked(TAGS_MAX)
        return await asyncio.to_thread(Typed, trends)


class Categories:
    """The categories that are in demand now."""

    def __init__(self, demand: Demand, applied: Applied, clock: Clock) -> None:
        self._demand = demand
        self._clock = clock
        self._categories = Kept(self._find, applied)

    async def now(self, position: int = 0) -> Ranked:
        """Incomplete, rather than nothing at all, while the half that sells cannot be read."""
        try:
            trends = await self._categories.get(position)
        except ReadsUnavailable:
            return Ranked((), complete=False)
        return Ranked(trends, not self._categories.failing)

    async def at(self, moment: datetime, position: int) -> Ranked:
        try:
            trends = await self._demand.categories(moment, TOPICS_MAX, position)
        except ReadsUnavailable:
            return Ranked((), complete=False)
        return Ranked(trends, complete=True)

    async def _find(self) -> Sequence[Trend]:
        return await self._demand.categories(self._clock(), TOPICS_MAX)
