"""How long each stage of a page takes, as a metric (C15): skeleton, hydrate, present.

Every sixteenth page is timed: timing costs, and percentiles do not need every page.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from infra.measures import Histogram

SECONDS_BUCKETS = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
    0.1, 0.2, 0.5, 1.0,
)  # fmt: skip


SOURCES = ("pushed", "pulled", "degraded", "past", "recommended")


class Stages(Collector):
    """`pages` counts by source, in plain numbers: the client library's counters lock."""

    def __init__(self, registry: CollectorRegistry) -> None:
        seconds = Histogram(
            "plaza_page_stage_seconds",
            "Time that a stage of a feed page takes, of every sixteenth page",
            ["stage"],
            registry,
            SECONDS_BUCKETS,
        )
        self.skeleton: Callable[[float], None] = seconds.times("skeleton").observe
        self.hydrate: Callable[[float], None] = seconds.times("hydrate").observe
        self.present: Callable[[float], None] = seconds.times("present").observe
        self.pages = dict.fromkeys(SOURCES, 0)
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "plaza_feed_pages", "Feed pages by where their skeleton came from", labels=["source"]
        )
        for source, pages in self.pages.items():
            family.add_metric([source], pages)
        yield family
