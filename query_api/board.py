"""The board of what trends now, in memory: the topics at its top, and every tag as it is typed."""

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime

from domain.shared.text import case_folded
from infra.http.consistency import Applied
from infra.ports.discovery import Demand, Discovery, TagCount, Trend
from infra.ports.log import Clock
from query_api.kept import Kept

TOPICS_MAX = 100
TAGS_MAX = 20_000
"""So many tags of the last 24 hours are offered while typing, the weightiest."""

LAST = "\U0010ffff"
"""Sorts after every character that a tag may have."""


class Tags:
    """The tags of a moment, weightiest first, and found by their beginnings."""

    def __init__(self, moment: datetime, trends: Sequence[Trend]) -> None:
        self.moment = moment
        self.topics = trends[:TOPICS_MAX]
        self._counts = {trend.name: trend.people for trend in trends}
        self._sorted = sorted(self._counts)

    def prefix(self, prefix: str, limit: int) -> list[TagCount]:
        first = bisect_left(self._sorted, prefix)
        last = bisect_left(self._sorted, prefix + LAST)
        found = [TagCount(tag, self._counts[tag]) for tag in self._sorted[first:last]]
        found.sort(key=lambda one: (-one.count, one.tag))
        return found[:limit]


class Board:
    """`infra.ports.discovery.TagReads`, and the topics of now."""

    def __init__(self, discovery: Discovery, applied: Applied, clock: Clock) -> None:
        self._discovery = discovery
        self._clock = clock
        self._tags = Kept(self._find, applied)

    async def now(self, position: int = 0) -> Tags:
        """Nothing up to the position is missing. Raises `ReadsUnavailable`."""
        return await self._tags.get(position)

    async def prefix(self, prefix: str, limit: int, position: int = 0) -> Sequence[TagCount]:
        folded = case_folded(prefix).removeprefix("#")
        return (await self.now(position)).prefix(folded, limit)

    async def _find(self) -> Tags:
        moment = self._clock()
        trends = await self._discovery.tags(moment, TAGS_MAX)
        return await asyncio.to_thread(Tags, moment, trends)


class Categories:
    """The categories that are in demand now."""

    def __init__(self, demand: Demand, applied: Applied, clock: Clock) -> None:
        self._demand = demand
        self._clock = clock
        self._categories = Kept(self._find, applied)

    async def now(self, position: int = 0) -> Sequence[Trend]:
        return await self._categories.get(position)

    async def at(self, moment: datetime, position: int) -> Sequence[Trend]:
        return await self._demand.categories(moment, TOPICS_MAX, position)

    async def _find(self) -> Sequence[Trend]:
        return await self._demand.categories(self._clock(), TOPICS_MAX)
