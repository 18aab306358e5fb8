"""Pushes entries to the timelines that are kept: chunk by chunk, many posts in flight, in order.

A worker that dies anywhere leaves a position that the next one goes on from. What it had pushed
beyond that is pushed again, and readers see it once.
"""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import structlog

from infra.formats.packed_timeline import encode_entry
from infra.ports.frames import Frame, partition_of
from infra.ports.log import EventLog, LogUnavailable, Recorded
from infra.ports.tables import StoreUnavailable
from infra.ports.timelines import (
    Bring,
    Effect,
    EffectOf,
    Gain,
    Keys,
    Link,
    Lose,
    Part,
    Refusal,
    TimelineSources,
    TimelineStore,
    TimelinesUnavailable,
)
from infra.runtime.timelines.audience import Audience, Audiences, audience_of
from infra.runtime.timelines.fanout_steps import (
    NOBODY,
    FanoutCounts,
    Known,
    Sent,
    StepRefused,
    Steps,
)

log = structlog.get_logger(__name__)

CHUNK_MAX = 1000
HYSTERESIS = 0.9
SLICE_EVENTS = 2_000
REORDER_SECONDS = 600.0
RETRY_SECONDS = 0.2
HELP_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """`celebrities_from`: followers from which an account's entries are merged at read; below
    nine tenths of it they are pushed again. Of a fan-out larger than `share_after` chunks the rest
    is shared among all workers."""

    celebrities_from: int = 10_000
    chunk_max: int = CHUNK_MAX
    share_after: int = 4

    @property
    def ordinary_below(self) -> float:
        return self.celebrities_from * HYSTERESIS


class TimelineFanout:
    """A `FrameApplier` whose positions stand in the store, beside what they cover.

    It runs behind the tables of the graph and the posts, and never holds them up: while the store
    is away frames are only noted, and taken from the log when it is back.
    """

    name = "home_timelines"

    def __init__(  # noqa: PLR0913
        self,
        store: TimelineStore,
        tables: TimelineSources,
        events: EventLog,
        effect_of: EffectOf,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        counts: FanoutCounts | None = None,
        shown: Callable[[Sequence[datetime]], None] = lambda _recorded_at: None,
    ) -> None:
        """`shown` is told when the entries were recorded that followers have from now on."""
        self._store = store
        self._tables = tables
        self._events = events
        self._effect_of = effect_of
        self._limits = limits or Limits()
        self._clock = clock
        self._shown = shown
        self._bringing: list[datetime] = []
        self.counts = counts or FanoutCounts()
        self._audiences = Audiences()
        self._steps = Steps(store, tables, events, self._audiences, self.counts)
        self._targets: dict[int, int] = {}
        self._turn = asyncio.Lock()
        self._catching_up = False

    # What a runner calls.

    async def checkpoints(self) -> Mapping[int, int]:
        """How far the store is; while it is away, how far the tables are: what is missing beyond
        the store's positions is taken from the log."""
        with contextlib.suppress(TimelinesUnavailable):
            kept = await self._store.load()
            if kept is not None:
                return dict(kept.applied)
        return await self._tables.checkpoints()

    async def apply(self, frames: Sequence[Frame]) -> None:
        """See `FrameApplier.apply`. Raises only when the tables or the log stay away."""
        for frame in frames:
            if frame.last > self._targets.get(frame.partition, 0):
                self._targets[frame.partition] = frame.last
        if self._catching_up or not self._store.reachable:
            return
        try:
            await self._apply(frames)
        except TimelinesUnavailable as error:
            log.warning("fanout.store_away", error=str(error))

    def put_off(self) -> Collection[int]:
        """The partitions whose frames are only noted as yet."""
        known = self._steps.known
        if known is None:
            return self._targets.keys()
        return [p for p, at in self._targets.items() if known.applied.get(p, at) < at]

    async def run(self) -> None:
        """Until cancelled: catch up when the store comes back, and help with large fan-outs."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_up())
            group.create_task(self._keep_helping())

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            if self._store.reachable and not self._steps.knows_the_store():
                try:
                    await self.catch_up()
                except (TimelinesUnavailable, StoreUnavailable, LogUnavailable) as error:
                    log.warning("fanout.behind", error=str(error))

    async def _keep_helping(self) -> None:
        while True:
            try:
                if await self._store.wait_for_parts(HELP_SECONDS):
                    while await self._store.help():
                        self.counts.helped += 1
            except TimelinesUnavailable:
                await asyncio.sleep(RETRY_SECONDS)

    async def catch_up(self) -> None:
        """Bring the store to where frames or, before the first frame, the tables have got."""
        if self._turn.locked():
            return
        if not self._targets:
            self._targets = dict(await self._tables.checkpoints())
        self._catching_up = True
        try:
            while frames := await self._missing():
                await self._apply(frames)
        finally:
            self._catching_up = False

    async def _missing(self) -> list[Frame]:
        """Watermarks at the targets that have not been reached: whoever applies one finds a gap."""
        async with self._turn:
            applied = (await self._steps.sync()).applied
        return [
            Frame(partition, target, target + 1, target)
            for partition, target in self._targets.items()
            if applied.get(partition, target) < target
        ]

    # Frames.

    async def _apply(self, frames: Sequence[Frame]) -> None:
        async with self._turn:
            tries = 0
            while True:
                known = await self._steps.sync()
                self._bringing = []
                try:
                    ours = [frame for frame in frames if frame.partition in known.applied]
                    ours.sort(key=lambda frame: (frame.partition, frame.first, frame.last))
                    await self._apply_frames(known, ours)
                    await self._steps.drain()
                    self._audiences.shrink()
                    self._shown(self._bringing)
                except StepRefused:
                    self.counts.refused += 1
                    self._steps.forget()
                    tries += 1
                    await asyncio.sleep(min(tries * tries * 1e-5, 0.1))
                except BaseException:
                    # What is under way is answered to nobody: ask the store where it is.
                    self._steps.forget()
                    raise
                else:
                    return

    async def _apply_frames(self, known: Known, frames: Sequence[Frame]) -> None:
        reached = dict(known.sent)
        gaps: dict[int, int] = {}
        for frame in frames:
            if frame.previous > reached[frame.partition]:
                gaps[frame.partition] = frame.previous
            reached[frame.partition] = max(reached[frame.partition], frame.last)
        if gaps:
            await self._apply_slice(known, set(gaps), max(gaps.values()))
        await self._apply_together(known, frames)

    async def _apply_slice(self, known: Known, partitions: set[int], last: int) -> None:
        """Take from the log what no frame brought."""
        after = min(known.sent[partition] for partition in partitions)
        log.info("fanout.gap_found", partitions=sorted(partitions), after=after, last=last)
        if await self._events.head() < last:
            raise LogUnavailable(f"the log ends before position {last}")
        while after < last:
            events = await self._events.read(after, SLICE_EVENTS)
            end = min(events[-1].position if events else last, last)
            found: dict[int, list[Recorded]] = {partition: [] for partition in partitions}
            for recorded in events:
                partition = partition_of(recorded.event)
                if partition in found and recorded.position <= end:
                    found[partition].append(recorded)
            await self._apply_together(
                known, [Frame(p, after, after + 1, end, of_p) for p, of_p in found.items()]
            )
            after = end

    async def _apply_together(self, known: Known, frames: Sequence[Frame]) -> None:
        """Apply what is new in frames, in the order in which it happened.

        Partitions need not keep step, but timelines whose entries come in order are the cheapest
        to trim and to read.
        """
        happened: list[tuple[int, Effect]] = []
        ends: dict[int, int] = {}
        for frame in frames:
            partition = frame.partition
            start = max(known.sent[partition], ends.get(partition, 0))
            if frame.last <= start:
                continue
            ends[partition] = frame.last
            effects = self._effects(frame, start)
            brought = {effect.author_id for effect in effects if isinstance(effect, Bring)}
            await self._fetch(known, partition, brought)
            happened += [(partition, effect) for effect in effects]
        happened.sort(key=lambda one: one[1].position)
        changed: dict[int, set[int]] = defaultdict(set)
        for partition, effect in happened:
            if not isinstance(effect, Bring):
                self._change(effect)
                changed[partition].add(effect.follower_id)
                continue
            if changed[partition]:
                await self._drop(known, partition, changed.pop(partition), effect.position - 1)
            await self._bring(known, partition, effect)
        for partition, last in ends.items():
            if known.sent[partition] < last:
                await self._drop(known, partition, changed[partition], last)

    def _effects(self, frame: Frame, after: int) -> list[Effect]:
        effects = []
        for recorded in frame.events:
            effect = self._effect_of(recorded) if recorded.position > after else None
            if effect is not None:
                effects.append(effect)
                if isinstance(effect, Bring):
                    self._bringing.append(recorded.recorded_at)
        return effects

    async def _fetch(self, known: Known, partition: int, author_ids: set[int]) -> None:
        """Have the audiences of these authors as of where the partition is, or of later.

        A later one is as good: whoever came or went between has the timeline dropped by the event
        that did it, which is still to come.
        """
        missing = [a for a in author_ids if a not in self._audiences and a not in known.celebrities]
        if not missing:
            return
        limit, position = self._limits.celebrities_from, known.sent[partition]
        for start in range(0, len(missing), CHUNK_MAX):
            part = missing[start : start + CHUNK_MAX]
            found = await self._tables.followers(partition, position, part, limit)
            for author_id in part:
                followers = found.get(author_id, NOBODY)
                # So many that there may be more: looked at again when the author's entry comes.
                if len(followers) < limit:
                    self._audiences.keep(author_id, audience_of(author_id, followers, position))

    def _change(self, effect: Gain | Lose) -> None:
        author_id, follower_id, position = effect
        gains = isinstance(effect, Gain)
        audience = self._audiences.get(author_id)
        if audience is not None:
            (audience.add if gains else audience.remove)(follower_id, position)
        counted = self._audiences.sizes.get(author_id)
        if counted is not None and position > counted[1]:
            self._audiences.sizes[author_id] = (counted[0] + (1 if gains else -1), position)

    # Entries.

    async def _bring(self, known: Known, partition: int, effect: Bring) -> None:
        author_id = effect.author_id
        if author_id in known.celebrities:
            if not await self._is_ordinary_again(partition, effect):
                await self._push_own(known, partition, effect)
                return
            await self._demote(known, partition, effect)
        audience = await self._audience(partition, effect)
        if audience is None or audience.followers >= self._limits.celebrities_from:
            await self._promote(known, partition, effect)
            return
        parts = await self._parts(audience)
        if len(parts) > 1:
            await self._push_parts(known, partition, effect, audience, parts)
            return
        entry = encode_entry(effect.position, effect.post_position)
        link = self._steps.link(known, partition, effect.position)
        keys = parts[0] if parts else _NO_KEYS
        outcome = self._store.push(link, effect.position, entry, keys)
        await self._steps.send(Sent(outcome, link, keys.members, audience, counted="entries"))

    async def _audience(self, partition: int, effect: Bring) -> Audience | None:
        """Whom the entry is for; None where those are too many to be pushed to."""
        author_id, before = effect.author_id, effect.position - 1
        audience = self._audiences.use(author_id)
        if audience is None:
            limit = self._limits.celebrities_from
            followers = (await self._tables.followers(partition, before, [author_id], limit)).get(
                author_id, NOBODY
            )
            if len(followers) >= limit:
                return None
            audience = audience_of(author_id, followers, before)
            self._audiences.keep(author_id, audience)
        return audience

    async def _parts(self, audience: Audience) -> Sequence[Keys]:
        """The timelines to push to, those of the latest readers first, by the chunk."""
        begun = self._steps.begun
        if audience.parts is not None and audience.seen < begun.count:
            new = begun.since(audience.seen)
            if new is None or any(member in audience for member in new):
                audience.parts = None
            audience.seen = begun.count
        chunk = self._limits.chunk_max
        if (
            audience.parts is not None
            and len(audience.parts) > 1
            and self._clock() - audience.ordered_at > REORDER_SECONDS
        ):
            audience.parts = None
        if audience.parts is None:
            having = begun.members
            listed = [member for member in audience.members.tolist() if member in having]
            members = np.array(listed, np.int64)
            if len(members) > chunk:
                members = await self._store.latest_first(members)
            audience.parts = [
                self._store.keys(members[start : start + chunk])
                for start in range(0, len(members), chunk)
            ]
            audience.seen, audience.ordered_at = begun.count, self._clock()
        return audience.parts

    async def _push_parts(
        self,
        known: Known,
        partition: int,
        effect: Bring,
        audience: Audience,
        parts: Sequence[Keys],
    ) -> None:
        """A fan-out of several chunks. The position is stored when all are done, and it has
        reached every timeline that was begun until then."""
        entry = encode_entry(effect.position, effect.post_position)
        own = max(1, self._limits.share_after)
        link = self._steps.link(known, partition, None)
        for keys in parts[:own]:
            outcome = self._store.push(link, effect.position, entry, keys)
            await self._steps.send(Sent(outcome, link, keys.members, audience))
        if len(parts) > own:
            # What is shared is done only where the partition is, so get there first.
            await self._steps.drain()
            shared = [Part(link, effect.position, entry, keys.members) for keys in parts[own:]]
            deliveries = sum(len(part.members) for part in shared)
            self.counts.queued += deliveries
            await self._store.share(shared)
            self.counts.shared += len(shared)
            while await self._store.help():
                pass
            self.counts.queued -= deliveries
            self.counts.deliveries += deliveries
        await self._steps.drain()
        while True:
            final = self._steps.link(known, partition, effect.position)
            done = await self._store.push(final, effect.position, entry, _NO_KEYS)
            if not isinstance(done, Refusal):
                known.applied[partition] = known.sent[partition] = effect.position
                self.counts.entries += 1
                return
            if done is Refusal.MOVED:
                raise StepRefused
            count = self._steps.begun.count
            await self._steps.hear_of_begun()
            new = self._steps.begun.since(count)
            late = audience.members if new is None else np.array(new, np.int64)
            late = np.intersect1d(late, audience.members)
            for start in range(0, len(late), CHUNK_MAX):
                keys = self._store.keys(late[start : start + CHUNK_MAX])
                outcome = self._store.push(link, effect.position, entry, keys)
                await self._steps.send(Sent(outcome, link, keys.members, audience))
            await self._steps.drain()

    async def _drop(self, known: Known, partition: int, changed: set[int], position: int) -> None:
        """Drop the timelines of these members, and be at a position."""
        listed = list(changed & self._steps.begun.members)
        # Where nobody's follows changed, timelines not heard of yet are none the worse.
        begun = self._steps.begun.count if changed else None
        while True:
            part, listed = listed[:CHUNK_MAX], listed[CHUNK_MAX:]
            reached = None if listed else position
            link = Link(partition, known.sent[partition], reached, begun)
            outcome = self._store.drop(link, part)
            await self._steps.send(Sent(outcome, link, np.array(part, np.int64)))
            if not listed:
                return

    # Celebrities.

    async def _push_own(self, known: Known, partition: int, effect: Bring) -> None:
        entry = encode_entry(effect.position, effect.post_position)
        link = self._steps.link(known, partition, effect.position)
        outcome = self._store.push_own(link, effect.position, entry, effect.author_id)
        sent = Sent(outcome, link, NOBODY, own_list_of=effect.author_id, counted="own_lists")
        await self._steps.send(sent)

    async def _promote(self, known: Known, partition: int, effect: Bring) -> None:
        """From this entry on the author has a list of its own; it holds what came before, too."""
        author_id, position = effect.author_id, effect.position
        slots = await self._steps.own_list(partition, position, author_id)
        link = self._steps.link(known, partition, position)
        outcome = self._store.promote(link, position, slots, author_id)
        known.celebrities.add(author_id)
        self._audiences.forget(author_id)
        log.info("fanout.promotes", author_id=author_id, position=position)
        await self._steps.send(Sent(outcome, link, NOBODY, counted="promoted"))

    async def _is_ordinary_again(self, partition: int, effect: Bring) -> bool:
        author_id = effect.author_id
        counted = self._audiences.sizes.get(author_id)
        if counted is None:
            before = effect.position - 1
            count = await self._tables.follower_count(partition, before, author_id)
            counted = (count, before)
            self._audiences.sizes[author_id] = counted
        return counted[0] < self._limits.ordinary_below

    async def _demote(self, known: Known, partition: int, effect: Bring) -> None:
        """Before this entry: followers' timelines lack what was in the own list, so they go."""
        author_id, before = effect.author_id, effect.position - 1
        limit = self._limits.celebrities_from
        found = await self._tables.followers(partition, before, [author_id], limit)
        audience = audience_of(author_id, found.get(author_id, NOBODY), before)
        link = Link(partition, known.sent[partition], None, self._steps.begun.count)
        members = [m for m in audience.members.tolist() if m in self._steps.begun.members]
        for start in range(0, len(members), CHUNK_MAX):
            part = members[start : start + CHUNK_MAX]
            outcome = self._store.drop(link, part)
            await self._steps.send(Sent(outcome, link, np.array(part, np.int64)))
        outcome = self._store.demote(link, author_id)
        known.celebrities.discard(author_id)
        self._audiences.sizes.pop(author_id, None)
        self._audiences.keep(author_id, audience)
        log.info("fanout.demotes", author_id=author_id, position=effect.position)
        await self._steps.send(Sent(outcome, link, NOBODY, counted="demoted"))


_NO_KEYS = Keys(NOBODY, b"")
