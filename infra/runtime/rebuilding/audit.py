"""Looks for documents that are not what the log says, all the time, for a small share of a core.

Three ways take turns: counts that one stream tells are folded from that stream; a slice of all
documents of a projection is folded from the whole log; and a kept timeline is pulled. What is found
wrong is told by a metric and a log line, looked at again, and mended where that is asked for.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import cycle
from typing import NamedTuple, Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from infra.ports.keepers import CannotVerify
from infra.ports.log import LogUnavailable
from infra.ports.reads import ReadsUnavailable
from infra.ports.tables import StoreUnavailable
from infra.ports.timelines import TimelinesUnavailable

PAUSE_SECONDS = 1.0
DRIFTING_MAX = 1_000
AGAIN_EVERY = 4
"""While anything is wrong, one look in so many is at what was found already."""

log = structlog.get_logger(__name__)


class Drift(NamedTuple):
    """A document that is wrong: in which table or list, under which key, and found in which part
    of the audit's work."""

    projection: str
    place: str
    key: str
    part: str = ""


class Looked(NamedTuple):
    """What one look found: how many documents it was at, which are wrong, how many were mended.

    `again` tells the documents that this was a look at too, where they had been wrong before.
    """

    projection: str
    documents: int
    drifts: Sequence[Drift]
    again: Callable[[Drift], bool]
    repaired: int = 0


class Look(Protocol):
    """One step of an audit; None where there was nothing to look at."""

    def __call__(self, known: Drift | None = None, /) -> Awaitable[Looked | None]:
        """Look at what comes next, or where this was found."""
        ...


class Budget:
    """Keeps work to a share of time: after each piece of it follows a pause that makes up."""

    def __init__(self, share: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._share = share
        self._clock = clock
        self._begun_at = clock()

    def begin(self) -> None:
        self._begun_at = self._clock()

    def owed(self) -> float:
        """Seconds to pause for what was done since."""
        return (self._clock() - self._begun_at) * (1 / self._share - 1)

    async def pace(self) -> None:
        await asyncio.sleep(self.owed())
        self.begin()


class Audit:
    """Looks at a few documents a step, from all of `looks` in turn, within its share of a core."""

    def __init__(
        self,
        looks: Sequence[Look],
        budget: Budget,
        registry: CollectorRegistry,
        dice: random.Random | None = None,
    ) -> None:
        order = list(looks)
        (dice or random.Random()).shuffle(order)
        self._looks: Iterator[Look] = cycle(order)
        self._budget = budget
        self._drifting: dict[Drift, Look] = {}
        self._steps = 0
        self._documents = Counter(
            "plaza_audit_documents_total",
            "Documents compared with the log by the audit",
            ["projection"],
            registry=registry,
        )
        self._found = Counter(
            "plaza_audit_drift_found_total",
            "Documents that the audit found to be wrong",
            ["projection"],
            registry=registry,
        )
        self._repaired = Counter(
            "plaza_audit_repaired_total",
            "Documents that the audit has mended",
            ["projection"],
            registry=registry,
        )
        self._gauge = Gauge(
            "plaza_audit_drifting",
            "Documents found wrong and not mended since",
            ["projection"],
            registry=registry,
        )

    async def run(self) -> None:
        """Look until cancelled, whatever is away meanwhile."""
        while True:
            await self.step()
            await asyncio.sleep(PAUSE_SECONDS)

    async def step(self) -> None:
        """The next look, and the pause that it costs."""
        self._budget.begin()
        try:
            look, known = self._next()
            looked = await look(known)
        except (
            CannotVerify,
            LogUnavailable,
            ReadsUnavailable,
            StoreUnavailable,
            TimelinesUnavailable,
        ) as error:
            # A switch, a restart, events set aside: the next round looks again.
            log.info("audit.broken_off", error=str(error))
            looked = None
        if looked is not None:
            self._note(looked, look)
        await self._budget.pace()

    def _next(self) -> tuple[Look, Drift | None]:
        """Now and then at what was found wrong, so that it is soon seen that somebody mended it."""
        self._steps += 1
        if self._drifting and self._steps % AGAIN_EVERY == 0:
            known = next(iter(self._drifting))
            look = self._drifting.pop(known)
            # The others come before it the next times.
            self._drifting[known] = look
            return look, known
        return next(self._looks), None

    def _note(self, looked: Looked, look: Look) -> None:
        name = looked.projection
        self._documents.labels(name).inc(looked.documents)
        self._repaired.labels(name).inc(looked.repaired)
        for drift in looked.drifts:
            if drift not in self._drifting:
                self._found.labels(name).inc()
                log.error(
                    "audit.drift_found",
                    projection=name,
                    place=drift.place,
                    key=drift.key,
                    repaired=looked.repaired > 0,
                )
        for known in [known for known in self._drifting if looked.again(known)]:
            del self._drifting[known]
        if not looked.repaired:
            room = DRIFTING_MAX - len(self._drifting)
            self._drifting.update(dict.fromkeys(looked.drifts[:room], look))
        self._gauge.labels(name).set(sum(drift.projection == name for drift in self._drifting))
