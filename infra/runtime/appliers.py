"""Everything that one worker keeps current, as one: what a runner hands its frames to."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from infra.ports import Frame
from infra.runtime.project import FrameApplier

SECONDS_BUCKETS = (
    0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 600.0,
)  # fmt: skip


class ApplierMetrics:
    """How fresh what a worker keeps is, and how much it applies."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["projection", "partition"]
        self._position = Gauge(
            "plaza_projection_position",
            "Log position up to which a partition has been applied",
            labels,
            registry=registry,
        )
        self._lag = Gauge(
            "plaza_projection_lag_seconds",
            "Age of the last applied event when it had been applied; 0 when none waited",
            labels,
            registry=registry,
        )
        self._seconds = Histogram(
            "plaza_projection_visible_seconds",
            "Time from an event's record to its being applied",
            ["projection"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._events = Counter(
            "plaza_projection_events_total",
            "Events applied, those without effect too",
            ["projection"],
            registry=registry,
        )
        self._batch = Histogram(
            "plaza_projection_batch_seconds",
            "Time to apply one batch of frames",
            ["projection"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._unreadable = Counter(
            "plaza_projection_unreadable_total",
            "Rows of the log that could not be decoded",
            registry=registry,
        )

    def applied(self, name: str, frames: Sequence[Frame], seconds: float, now: datetime) -> None:
        observe = self._seconds.labels(name).observe
        count = 0
        for frame in frames:
            age = 0.0
            for recorded in frame.events:
                age = (now - recorded.recorded_at).total_seconds()
                observe(age)
            count += len(frame.events)
            self._position.labels(name, frame.partition).set(frame.last)
            self._lag.labels(name, frame.partition).set(age)
        self._events.labels(name).inc(count)
        self._batch.labels(name).observe(seconds)

    def unreadable(self, frames: Sequence[Frame]) -> None:
        self._unreadable.inc(sum(len(frame.unreadable) for frame in frames))


class Appliers:
    """`infra.ports.ProjectionRunner`: the appliers of one worker, one after the other.

    Those that read what others keep stand behind them: when one is handed a frame, those before it
    have applied it.
    """

    def __init__(self, appliers: Sequence[FrameApplier], metrics: ApplierMetrics) -> None:
        assert appliers
        self._appliers = appliers
        self._metrics = metrics

    async def checkpoints(self) -> Mapping[int, int]:
        """The least of all, by partition."""
        least: dict[int, int] = {}
        for applier in self._appliers:
            for partition, position in (await applier.checkpoints()).items():
                least[partition] = min(least.get(partition, position), position)
        return least

    async def apply(self, frames: Sequence[Frame]) -> None:
        """See `infra.ports.ProjectionRunner.apply`."""
        self._metrics.unreadable(frames)
        for applier in self._appliers:
            started = time.perf_counter()
            await applier.apply(frames)
            seconds = time.perf_counter() - started
            self._metrics.applied(applier.name, frames, seconds, datetime.now(UTC))
