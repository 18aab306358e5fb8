"""What a fan-out tells of itself: how fresh feeds are, what it has done, what it has yet to do."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from prometheus_client import CollectorRegistry

from infra.measures import FRESHNESS_SECONDS, Gauges, Histogram, Labels
from infra.runtime.timelines.fanout_steps import FanoutCounts

STEPS = ("own_lists", "dropped", "refused", "promoted", "demoted", "shared", "helped")


class FanoutMetrics:
    """`counts` is looked at whenever somebody asks; `shown` is told of what followers have."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.time) -> None:
        self.counts = FanoutCounts()
        self._clock = clock
        about = "Time from a post or repost until it is in the feeds of the author's followers"
        self._observe = (
            Histogram("plaza_feed_freshness_seconds", about, [], registry, FRESHNESS_SECONDS)
            .times()
            .observe
        )
        Gauges(
            "plaza_fanout_entries_total",
            "Posts and reposts brought to followers",
            [],
            registry,
            lambda: {(): self.counts.entries},
            counter=True,
        )
        Gauges(
            "plaza_fanout_deliveries_total",
            "Entries put into timelines that are kept",
            [],
            registry,
            lambda: {(): self.counts.deliveries},
            counter=True,
        )
        Gauges(
            "plaza_fanout_steps_total",
            "Other steps of the fan-out, by kind",
            ["step"],
            registry,
            self._steps,
            counter=True,
        )
        Gauges(
            "plaza_fanout_queue_deliveries",
            "Deliveries that this worker has taken on and not done yet",
            [],
            registry,
            lambda: {(): self.counts.queued},
        )

    def shown(self, recorded_at: Sequence[datetime]) -> None:
        now = self._clock()
        for at in recorded_at:
            self._observe(now - at.timestamp())

    def _steps(self) -> Mapping[Labels, float]:
        counts = asdict(self.counts)
        return {(step,): counts[step] for step in STEPS}
