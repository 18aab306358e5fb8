"""Buries what is deleted or taken back in timelines that keep it: readers leave it out anyway.

An entry in its grave still counts among the newest, so that a timeline never shows more than the
law allows; but nobody has to look up any more that it is not shown.
"""

import asyncio
from collections.abc import Mapping

import structlog

from infra.formats.packed_timeline import graves_for, standing_in
from infra.ports.log import LogUnavailable
from infra.ports.tables import StoreUnavailable
from infra.ports.timelines import TimelineSources, TimelineStore, TimelinesUnavailable

log = structlog.get_logger(__name__)

LISTS_AT_ONCE = 20
PAUSE_SECONDS = 0.2
EVERY_SECONDS = 3600.0
LOOK_SECONDS = 60.0
AHEAD = 1 << 20


class TimelineSweep:
    """The sweep of one store, done by one of all workers at a time."""

    def __init__(self, store: TimelineStore, tables: TimelineSources) -> None:
        self._store = store
        self._tables = tables

    async def run(self) -> None:
        """Until cancelled: one pass an hour, by one of all workers, slowly."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if self._store.reachable and await self._store.take_turn("sweep", EVERY_SECONDS):
                    log.info("sweep.done", buried=await self.sweep(PAUSE_SECONDS))
            except (TimelinesUnavailable, StoreUnavailable, LogUnavailable) as error:
                log.warning("sweep.broken_off", error=str(error))

    async def sweep(self, pause_seconds: float = 0.0) -> int:
        """Go through all kept lists once; answers how many entries were buried."""
        buried = 0
        cursor = b"0"
        while True:
            kept = await self._store.load()
            if kept is None:
                return buried
            cursor, lists = await self._store.lists(cursor, LISTS_AT_ONCE)
            # Some partitions may have got ahead of what was asked a moment ago.
            buried += await self._bury(lists, max(kept.applied.values()) + AHEAD)
            if cursor == b"0":
                return buried
            await asyncio.sleep(pause_seconds)

    async def _bury(self, lists: Mapping[bytes, bytes], now: int) -> int:
        positions = {at for slots in lists.values() for _, at in standing_in(slots, now)}
        gone = await self._tables.gone(positions)
        if not gone:
            return 0
        buried = 0
        for name, slots in lists.items():
            if graves := graves_for(slots, frozenset(gone), now):
                buried += await self._store.bury(name, graves)
        return buried
