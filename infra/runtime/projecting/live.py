"""Follows what projections apply: how far everything is, and what cached things are no longer true.

While this is connected, a cache that forgets what it is told to forget holds nothing outdated.
When the connection is lost everything cached is forgotten, and nothing kept until it is back.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import structlog

from infra.ports.frames import SOCIAL_PARTITIONS, Applied
from infra.ports.reads import Changes, Checkpoints, ReadsUnavailable

log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.25


class Follower(Protocol):
    """What is kept current by following."""

    def begin(self) -> None:
        """From now on changes are told; what is read after this may be kept."""
        ...

    def end(self) -> None:
        """Changes are no longer told: forget everything, keep nothing."""
        ...

    def changed(self, applied: Applied) -> None:
        """Forget what this touched."""
        ...


class Live:
    """How far the read tables are, from their checkpoints and then from what is told.

    `on_position` is called with the position up to which every projection has applied everything.
    """

    def __init__(  # noqa: PLR0913
        self,
        changes: Changes,
        reads: Checkpoints,
        *,
        projections: Collection[str],
        partitions: Sequence[int] = SOCIAL_PARTITIONS,
        followers: Collection[Follower],
        on_position: Callable[[int], None],
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._changes = changes
        self._reads = reads
        self._projections = frozenset(projections)
        self._followers = list(followers)
        self._on_position = on_position
        self._on_lost = on_lost
        self._reached: dict[tuple[str, int], int] = {
            (name, partition): 0 for name in projections for partition in partitions
        }
        self._builds: dict[str, int] = {}
        self.connected = False
        self.newest = 0

    @property
    def complete(self) -> int:
        """Every event up to this position has been applied by every projection."""
        return min(self._reached.values())

    def forget(self, switched: str = "") -> None:
        """Have the followers forget everything that they read from the tables of a projection, or
        of any: those are not served any more."""
        for follower in self._followers:
            follower.changed(Applied(switched, 0, {}, everything=True))

    async def newest_position(self) -> int:
        """The newest position that any projection has heard of."""
        if not self.connected:
            await self._look()
        return self.newest

    async def run(self) -> None:
        """Follow until cancelled; a lost connection is made anew."""
        while True:
            try:
                async with contextlib.aclosing(self._changes.follow()) as told:
                    async for applied in told:
                        if applied is None:
                            await self._catch_up()
                        else:
                            await self._see(applied)
            except ReadsUnavailable as error:
                log.warning("live.lost", error=str(error))
            self._lose()
            await asyncio.sleep(RETRY_SECONDS)

    async def _catch_up(self) -> None:
        if not self.connected:
            await self._reads.renew()
        # Checkpoints are looked at once listening has begun, so that nothing falls between.
        await self._look()
        if not self.connected:
            self.connected = True
            for follower in self._followers:
                follower.begin()
            log.info("live.connected", position=self.complete)

    async def _look(self) -> None:
        for name, partitions in (await self._reads.checkpoints(self._projections)).items():
            for partition, position in partitions.items():
                self._reach(name, partition, position)
        self._on_position(self.complete)

    async def _see(self, applied: Applied) -> None:
        if applied.projection not in self._projections:
            return
        known = self._builds.get(applied.projection)
        self._builds[applied.projection] = applied.build
        if known != applied.build and (known is not None or applied.everything):
            # Other tables are served from now on. They are nowhere behind the ones before.
            await self._reads.renew(applied.projection)
            log.info("live.switched", projection=applied.projection, build=applied.build)
        for follower in self._followers:
            follower.changed(applied)
        for partition, position in applied.positions.items():
            self._reach(applied.projection, partition, position)
        self._on_position(self.complete)

    def _reach(self, projection: str, partition: int, position: int) -> None:
        key = (projection, partition)
        if position > self._reached.get(key, 0):
            self._reached[key] = position
            self.newest = max(self.newest, position)

    def _lose(self) -> None:
        self.connected = False
        self._builds.clear()
        # A store that was rolled back to an earlier state starts again from its own checkpoints.
        self._reached = dict.fromkeys(self._reached, 0)
        self.newest = 0
        self._on_lost()
        for follower in self._followers:
            follower.end()
