"""Metrics in plain numbers: a tenth of what the client library's own ones cost to count.

Each is written by one thread only, which is why none needs a lock. Label values are bounded sets
(routes, projections, partitions): never anything that clients make up, and never an id.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

# K1 asks for percentiles up to 99.9 around limits of 200 and 500 ms.
PAGE_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip

# From an event's record to its being shown: milliseconds as a rule, minutes after an outage.
FRESHNESS_SECONDS = (
    0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 600.0,
)  # fmt: skip

Observe = Callable[[float], None]
Labels = tuple[str, ...]


class Times:
    """One histogram of seconds."""

    __slots__ = ("counts", "limits", "total")

    def __init__(self, limits: Sequence[float]) -> None:
        self.limits = limits
        self.counts = [0] * (len(limits) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.limits, seconds)] += 1
        self.total += seconds


class Histogram(Collector):
    """Histograms of seconds by labels."""

    def __init__(
        self,
        name: str,
        about: str,
        labels: Iterable[str],
        registry: CollectorRegistry,
        limits: Sequence[float] = PAGE_SECONDS,
    ) -> None:
        self._name, self._about, self._labels = name, about, list(labels)
        self._limits = limits
        self._shown = [*map(str, limits), "+Inf"]
        self._kept: dict[Labels, Times] = {}
        registry.register(self)

    def times(self, *labels: str) -> Times:
        return self._kept.setdefault(labels, Times(self._limits))

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._about, labels=self._labels)
        for labels, times in list(self._kept.items()):
            buckets = list(zip(self._shown, accumulate(map(float, times.counts)), strict=True))
            family.add_metric(list(labels), buckets, times.total)
        yield family


class Counts(Collector):
    """Counters by labels. What counts often takes `by` and adds to it."""

    def __init__(
        self, name: str, about: str, labels: Iterable[str], registry: CollectorRegistry
    ) -> None:
        assert name.endswith("_total"), "a counter's name ends so"
        self._name, self._about, self._labels = name, about, list(labels)
        self.by: Counter[Labels] = Counter()
        registry.register(self)

    def add(self, count: int, *labels: str) -> None:
        self.by[labels] += count

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._about, labels=self._labels)
        for labels, count in list(self.by.items()):
            family.add_metric(list(labels), count)
        yield family


class Gauges(Collector):
    """Values by labels, looked up when somebody asks for them."""

    def __init__(  # noqa: PLR0913
        self,
        name: str,
        about: str,
        labels: Iterable[str],
        registry: CollectorRegistry,
        look: Callable[[], Mapping[Labels, float]],
        *,
        counter: bool = False,
    ) -> None:
        """`counter`: the values only ever grow, and the name ends in `_total`."""
        self._name, self._about, self._labels = name, about, list(labels)
        self._look = look
        self._family = CounterMetricFamily if counter else GaugeMetricFamily
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        yield self._family(self._name, self._about, labels=self._labels)

    def collect(self) -> Iterable[Metric]:
        family = self._family(self._name, self._about, labels=self._labels)
        for labels, value in self._look().items():
            family.add_metric(list(labels), value)
        yield family
