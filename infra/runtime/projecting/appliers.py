"""Everything that one worker keeps current, as one: what a runner hands its frames to."""

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from prometheus_client import CollectorRegistry

from domain.shared.message import tag_of
from infra.measures import FRESHNESS_SECONDS, Counts, Gauges, Histogram, Labels
from infra.ports.frames import Frame
from infra.runtime.projecting.applied_history import AppliedHistory, Batch
from infra.runtime.projecting.applied_spans import AppliedSpans
from infra.runtime.projecting.project import FrameApplier

Seen = Callable[[Sequence[Frame]], None]

WAITING_MAX = 2_000
"""So many frames of a partition are told apart while they wait."""


@runtime_checkable
class PutsOff(Protocol):
    """An applier that may only note frames, and take what they held from the log later."""

    def put_off(self) -> Collection[int]:
        """The partitions in which something noted has not been applied yet."""
        ...


class _Waits(NamedTuple):
    """Frames that are not applied: up to which position, and when the first was recorded."""

    last: int
    since: float


def wait(waiting: deque[_Waits], last: int, since: float) -> None:
    """Another frame waits; of very many the newest are taken together."""
    if not waiting:
        waiting.append(_Waits(last, since))
    elif last > waiting[-1].last:
        if len(waiting) >= WAITING_MAX:
            since = waiting.pop().since
        waiting.append(_Waits(last, since))


class ApplierMetrics:
    """How fresh what a worker keeps is, how much it applies, and when it applied what."""

    def __init__(
        self,
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.time,
        spans: AppliedSpans | None = None,
    ) -> None:
        """`spans` None: no traces are exported."""
        self._clock = clock
        self._spans = spans
        self._positions: dict[Labels, float] = {}
        self._newest: dict[Labels, float] = {}
        self._waiting: dict[Labels, deque[_Waits]] = {}
        self._putting_off: dict[str, PutsOff] = {}
        self._types: Counter[type] = Counter()
        self.history = AppliedHistory()
        places = ["projection", "partition"]
        Gauges(
            "plaza_projection_position",
            "Log position up to which a partition has been applied",
            places,
            registry,
            lambda: dict(self._positions),
        )
        Gauges(
            "plaza_projection_lag_seconds",
            "Age of the oldest event that was handed over and is not applied; 0 when none waits",
            places,
            registry,
            self._lags,
        )
        Gauges(
            "plaza_projection_last_event_timestamp_seconds",
            "When the last event that was applied was recorded, in seconds since 1970",
            places,
            registry,
            lambda: dict(self._newest),
        )
        Gauges(
            "plaza_log_events_total",
            "Events seen by type; after a crash some may be counted again",
            ["type"],
            registry,
            lambda: {(tag_of(kind),): count for kind, count in self._types.items()},
            counter=True,
        )
        self._visible = Histogram(
            "plaza_projection_visible_seconds",
            "Time from an event's record to its being applied",
            ["projection"],
            registry,
            FRESHNESS_SECONDS,
        )
        self._batch = Histogram(
            "plaza_projection_batch_seconds",
            "Time to apply one batch of frames",
            ["projection"],
            registry,
            FRESHNESS_SECONDS,
        )
        self._events = Counts(
            "plaza_projection_events_total",
            "Events applied, those without effect too",
            ["projection"],
            registry,
        )
        self._unreadable = Counts(
            "plaza_projection_unreadable_total",
            "Rows of the log that could not be decoded",
            [],
            registry,
        )
        self._unreadable.add(0)

    def begins(self, name: str, checkpoints: Mapping[int, int]) -> None:
        """It goes on from here: what lies before is not new when it is handed over again."""
        for partition, position in checkpoints.items():
            self._positions[name, str(partition)] = position

    def taken(self, applier: FrameApplier, frames: Sequence[Frame]) -> None:
        """Frames are being handed over."""
        if isinstance(applier, PutsOff):
            self._putting_off[applier.name] = applier
        for frame in frames:
            place = (applier.name, str(frame.partition))
            if frame.events and frame.last > self._positions.get(place, 0):
                first = frame.events[0].recorded_at.timestamp()
                wait(self._waiting.setdefault(place, deque()), frame.last, first)

    def applied(self, applier: FrameApplier, frames: Sequence[Frame], seconds: float) -> None:
        """The same frames have been applied, but for what the applier puts off."""
        name, now = applier.name, self._clock()
        later = applier.put_off() if isinstance(applier, PutsOff) else ()
        observe = self._visible.times(name).observe
        done = []
        count = 0
        for frame in frames:
            place = (name, str(frame.partition))
            before = self._positions.get(place, 0)
            if frame.partition in later or frame.last <= before:
                continue
            done.append(frame)
            self._reach(place, frame.last)
            events = frame.events
            if events and events[0].position <= before:
                events = [recorded for recorded in events if recorded.position > before]
            if events:
                for recorded in events:
                    observe(now - recorded.recorded_at.timestamp())
                self._newest[place] = events[-1].recorded_at.timestamp()
                count += len(events)
        self._events.add(count, name)
        self._batch.times(name).observe(seconds)
        self.history.note(name, done, now)
        if self._spans is not None:
            self._spans.applied(name, done, now, seconds)

    def caught_up(self, name: str, positions: Mapping[int, int]) -> None:
        """What an applier put off is applied now, up to these positions."""
        now = self._clock()
        for partition, position in positions.items():
            place = (name, str(partition))
            batch = Batch(now, int(self._positions.get(place, 0)), position)
            self.history.passed(name, partition, batch)
            self._reach(place, position)

    def _reach(self, place: Labels, position: int) -> None:
        self._positions[place] = position
        waiting = self._waiting.get(place)
        while waiting and waiting[0].last <= position:
            waiting.popleft()

    def seen(self, frames: Sequence[Frame]) -> None:
        """Everything in this worker has been handed these frames."""
        for frame in frames:
            self._types.update(map(type, [recorded.event for recorded in frame.events]))
            if frame.unreadable:
                self._unreadable.add(len(frame.unreadable))

    def _lags(self) -> Mapping[Labels, float]:
        now = self._clock()
        later = {name: set(map(str, one.put_off())) for name, one in self._putting_off.items()}
        lags: dict[Labels, float] = dict.fromkeys([*self._positions, *self._waiting], 0.0)
        for place, waiting in list(self._waiting.items()):
            if waiting and place[1] in later.get(place[0], {place[1]}):
                lags[place] = max(0.0, now - waiting[0].since)
        return lags


class Appliers:
    """`infra.ports.frames.FrameTarget`: the appliers of one worker, one after the other.

    Those that read what others keep stand behind them: when one is handed a frame, those before it
    have applied it. `seen` are told of frames once all have had them.
    """

    def __init__(
        self,
        appliers: Sequence[FrameApplier],
        metrics: ApplierMetrics,
        seen: Sequence[Seen] = (),
    ) -> None:
        assert appliers
        self._appliers = appliers
        self._metrics = metrics
        self._seen = (metrics.seen, *seen)

    async def checkpoints(self) -> Mapping[int, int]:
        """The least of all, by partition."""
        least: dict[int, int] = {}
        for applier in self._appliers:
            positions = await applier.checkpoints()
            self._metrics.begins(applier.name, positions)
            for partition, position in positions.items():
                least[partition] = min(least.get(partition, position), position)
        return least

    async def apply(self, frames: Sequence[Frame]) -> None:
        """See `infra.ports.frames.FrameTarget.apply`."""
        for applier in self._appliers:
            self._metrics.taken(applier, frames)
            started = time.perf_counter()
            await applier.apply(frames)
            self._metrics.applied(applier, frames, time.perf_counter() - started)
        for told in self._seen:
            told(frames)
