"""Does small chores again and again, in small steps, for as long as the worker runs."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from prometheus_client import CollectorRegistry, Counter

from infra.ports.log import LogUnavailable
from infra.ports.tables import StoreUnavailable

EVERY_SECONDS = 300.0
STEP_SECONDS = 0.5

Chore = Callable[[], Awaitable[int]]
"""One step; answers how much it did, and 0 once there is nothing left to do."""

log = structlog.get_logger(__name__)


class Upkeep:
    """The chores of a worker, by name."""

    def __init__(self, chores: Mapping[str, Chore], registry: CollectorRegistry) -> None:
        self._chores = chores
        self._removed = Counter(
            "plaza_maintenance_removed_total",
            "What upkeep has removed, by kind",
            ["what"],
            registry=registry,
        )

    async def run(self) -> None:
        """Until cancelled: every chore to its end, then a long pause."""
        while True:
            await self.round()
            await asyncio.sleep(EVERY_SECONDS)

    async def round(self, pause_seconds: float = STEP_SECONDS) -> None:
        """Each chore to its end. Where a store is away, the next round does it."""
        for name, chore in self._chores.items():
            total = 0
            try:
                while done := await chore():
                    total += done
                    self._removed.labels(name).inc(done)
                    await asyncio.sleep(pause_seconds)
            except (StoreUnavailable, LogUnavailable) as error:
                log.warning("upkeep.broken_off", what=name, error=str(error))
            if total:
                log.info("upkeep.removed", what=name, count=total)
