"""How long each stage of a page takes, as a metric (C15): skeleton, hydrate, present.

Every sixteenth page is timed: timing costs, and percentiles do not need every page.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram

SECONDS_BUCKETS = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
    0.1, 0.2, 0.5, 1.0,
)  # fmt: skip


class Stages:
    def __init__(self, registry: CollectorRegistry) -> None:
        seconds = Histogram(
            "plaza_page_stage_seconds",
            "Time that a stage of a feed page takes, of every sixteenth page",
            ["stage"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self.skeleton: Callable[[float], None] = seconds.labels("skeleton").observe
        self.hydrate: Callable[[float], None] = seconds.labels("hydrate").observe
        self.present: Callable[[float], None] = seconds.labels("present").observe
        sources = Counter(
            "plaza_feed_pages_total",
            "Feed pages by where their skeleton came from",
            ["source"],
            registry=registry,
        )
        self.pushed: Callable[[], None] = sources.labels("pushed").inc
        self.pulled: Callable[[], None] = sources.labels("pulled").inc
        self.degraded: Callable[[], None] = sources.labels("degraded").inc
        self.past: Callable[[], None] = sources.labels("past").inc
        loads = Counter(
            "plaza_cache_loads_total",
            "Rows that pages had to fetch because the local cache did not have them",
            ["kind"],
            registry=registry,
        )
        self.loaded_items: Callable[[float], None] = loads.labels("item").inc
        self.loaded_viewers: Callable[[float], None] = loads.labels("viewer").inc
