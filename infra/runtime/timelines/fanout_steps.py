"""Steps of a fan-out on their way to the store: many at once, each behind the one before it.

Each names the position before it and is done by the store only if the partition is exactly there;
so a refused step takes everything after it along, and what was refused is worked out again from
where the store says it is.
"""

from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from infra.formats.packed_timeline import TIMELINE_MAX, encode_entries, represents
from infra.ports.log import EventLog
from infra.ports.timelines import (
    Kept,
    Link,
    Members,
    Outcome,
    Refusal,
    TimelineSources,
    TimelineStore,
    TimelinesUnavailable,
)
from infra.runtime.timelines.audience import Audience, Audiences, Begun

log = structlog.get_logger(__name__)

IN_FLIGHT_MAX = 32
DONE_TOGETHER = 16
NOBODY: Members = np.empty(0, np.int64)


class StepRefused(Exception):
    """A step was refused, and with it all those after it."""


@dataclass
class Sent:
    """A step that is under way. `counted` names what it counts as once it is done."""

    outcome: Awaitable[Outcome]
    link: Link
    keys: Members
    audience: Audience | None = None
    own_list_of: int = 0
    counted: str = ""


@dataclass
class FanoutCounts:
    """What has been done since the start."""

    entries: int = 0
    deliveries: int = 0
    own_lists: int = 0
    dropped: int = 0
    refused: int = 0
    promoted: int = 0
    demoted: int = 0
    shared: int = 0
    helped: int = 0
    queued: int = 0
    """Deliveries taken on and not done yet: the only number here that falls again."""


@dataclass
class Known:
    """What this worker believes about the store: what was answered, and what is under way."""

    epoch: str
    applied: dict[int, int]
    sent: dict[int, int]
    celebrities: set[int]

    @staticmethod
    def of(kept: Kept) -> "Known":
        applied = dict(kept.applied)
        return Known(kept.epoch, applied, dict(applied), set(kept.celebrities))


class Steps:
    """What is under way to one store, and what is known of it.

    What it learns of the store makes some of `audiences` wrong: those are forgotten here.
    """

    def __init__(
        self,
        store: TimelineStore,
        tables: TimelineSources,
        events: EventLog,
        audiences: Audiences,
        counts: FanoutCounts,
    ) -> None:
        self._store = store
        self._tables = tables
        self._events = events
        self._audiences = audiences
        self._counts = counts
        self.begun = Begun()
        self._known: Known | None = None
        self._in_flight: deque[Sent] = deque()
        self._generation = -1
        self._passed: dict[int, int] = {}
        self._epoch = ""

    @property
    def known(self) -> Known | None:
        """What is believed of the store; None where it has to be asked first."""
        return self._known

    # Knowing the store.

    def knows_the_store(self) -> bool:
        """Whether what is believed was learnt on the store's present connection."""
        return self._known is not None and self._generation == self._store.generation

    async def sync(self) -> Known:
        """What the store holds; adopts an empty one, as of where the tables are."""
        if self._known is not None and self.knows_the_store():
            return self._known
        self.forget()
        generation = self._store.generation
        is_new = generation != self._generation
        kept = await self._store.load()
        if kept is None or (is_new and await self._is_beyond_the_log(kept)):
            await self._store.adopt(kept.epoch if kept else "", await self._tables.checkpoints())
            log.info("fanout.started_anew")
            kept = await self._store.load()
            if kept is None:
                raise TimelinesUnavailable("the store does not keep anything")
        is_new |= kept.epoch != self._epoch
        passed = self._passed
        if is_new or any(at > passed.get(p, 0) for p, at in kept.applied.items()):
            # What another worker has applied did not pass through the audiences of this one.
            self._audiences.clear()
            self._passed = dict(kept.applied)
        if is_new:
            # Another store, or an earlier state of it: what was learnt from it is worth nothing.
            self.begun.start(kept.begun, await self._store.everybody())
        elif kept.begun != self.begun.count:
            await self.hear_of_begun()
        self._generation, self._epoch = generation, kept.epoch
        self._known = Known.of(kept)
        return self._known

    async def hear_of_begun(self) -> None:
        """Learn which timelines were begun since this was last asked."""
        count, members = await self._store.begun_after(self.begun.count)
        if members is None:
            # Count first, then everybody: whoever begins meanwhile is heard of once more.
            self.begun.start(count, await self._store.everybody())
            for audience in self._audiences:
                audience.parts = None
        else:
            self.begun.add(count, members)

    async def _is_beyond_the_log(self, kept: Kept) -> bool:
        """Whether the log lost its end since: then the store shows what never happened."""
        return max(kept.applied.values()) > await self._events.head()

    def forget(self) -> None:
        """Believe nothing more: the store is to be asked where it is before the next step."""
        if self._known is not None:
            for partition, position in self._known.sent.items():
                self._passed[partition] = max(position, self._passed.get(partition, 0))
        self._known = None
        self._in_flight.clear()
        self._counts.queued = 0

    # Steps.

    def link(self, known: Known, partition: int, position: int | None) -> Link:
        """The next step of a partition; it takes the partition to `position` once it is sent."""
        begun = None if position is None else self.begun.count
        return Link(partition, known.sent[partition], position, begun)

    async def send(self, sent: Sent) -> None:
        """Take a step on; where too many are under way, wait for the oldest of them first.

        Raises `StepRefused` where one of those was refused, or nothing is known of the store.
        """
        known = self._known
        if known is None:
            raise StepRefused
        if sent.link.position is not None:
            known.sent[sent.link.partition] = sent.link.position
        self._in_flight.append(sent)
        self._counts.queued += len(sent.keys)
        if len(self._in_flight) >= IN_FLIGHT_MAX:
            # The next are sent while the rest of these are being done.
            for _ in range(DONE_TOGETHER):
                await self._confirm(known, self._in_flight.popleft())

    async def drain(self) -> None:
        """Wait for all that is under way. Raises `StepRefused`."""
        while self._in_flight:
            known = self._known
            if known is None:
                raise StepRefused
            await self._confirm(known, self._in_flight.popleft())

    async def _confirm(self, known: Known, sent: Sent) -> None:
        """Raises `StepRefused`: then all under way is to be forgotten, and the store asked anew."""
        outcome = await sent.outcome
        if isinstance(outcome, Refusal):
            raise StepRefused
        link, keys = sent.link, sent.keys
        self._counts.queued -= len(keys)
        if link.position is not None:
            known.applied[link.partition] = link.position
        if sent.counted:
            setattr(self._counts, sent.counted, getattr(self._counts, sent.counted) + 1)
        if sent.audience is None:
            # Dropped: pushed to again only once begun again, and that is heard of later.
            self.begun.members.difference_update(keys.tolist())
            self._counts.dropped += len(keys)
        else:
            self._counts.deliveries += len(keys) - len(outcome)
        if outcome:
            await self._lost(known, sent, outcome)

    async def _lost(self, known: Known, sent: Sent, places: Sequence[int]) -> None:
        """There was nothing under these keys."""
        if sent.own_list_of:
            await self._restore_own_list(known, sent.link.partition, sent.own_list_of)
            return
        self.begun.members.difference_update(sent.keys[list(places)].tolist())
        if sent.audience is not None:
            sent.audience.parts = None

    async def _restore_own_list(self, known: Known, partition: int, author_id: int) -> None:
        """Readers see that it is missing, and do without until it is back."""
        log.warning("fanout.own_list_lost", author_id=author_id)
        position = known.sent[partition]
        slots = await self.own_list(partition, position, author_id)
        link = Link(partition, position, None, None)
        outcome = self._store.promote(link, position, slots, author_id)
        await self.send(Sent(outcome, link, NOBODY))

    async def own_list(self, partition: int, position: int, author_id: int) -> bytes:
        """A celebrity's entries as of a position, packed as its own list holds them."""
        entries = await self._tables.entries(partition, position, author_id, TIMELINE_MAX)
        return encode_entries(
            (entry.position, entry.post_position)
            for entry in entries
            if represents(position, entry.position)
        )
