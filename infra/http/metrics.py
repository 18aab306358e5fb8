"""What both services measure about themselves, as Prometheus metrics."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

# K1 asks for percentiles up to 99.9 around limits of 200 and 500 ms.
SECONDS_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip

Observe = Callable[[float], None]


class RequestMetrics:
    """Request times by route and status, in a registry that may hold other metrics besides."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._seconds = Histogram(
            "plaza_http_request_seconds",
            "Time from the request's headers to the last byte of its answer",
            ["route", "status"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._refused = Counter(
            "plaza_http_refused_total",
            "Requests that were refused before anything was done for them",
            ["reason"],
            registry=registry,
        )
        self._observers: dict[tuple[str, int], Observe] = {}

    def observe(self, route: str, status: int, seconds: float) -> None:
        # Looking a child up by its labels costs more than observing; there are few of them.
        observer = self._observers.get((route, status))
        if observer is None:
            observer = self._seconds.labels(route, str(status)).observe
            self._observers[route, status] = observer
        observer(seconds)

    def refused(self, reason: str) -> None:
        """Count a refusal: `rate`, `login`, `size`."""
        self._refused.labels(reason).inc()

    def text(self) -> bytes:
        """Everything in the registry, as Prometheus reads it."""
        return generate_latest(self.registry)


MEDIA_TYPE = CONTENT_TYPE_LATEST
