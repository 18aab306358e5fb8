"""What both services measure about themselves, as Prometheus metrics."""

from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from infra.measures import Counts, Histogram, Observe

Refresh = Callable[[], Awaitable[None]]


class RequestMetrics:
    """Request times by route and status, in a registry that may hold other metrics besides."""

    def __init__(self, registry: CollectorRegistry, refresh: Refresh | None = None) -> None:
        """`refresh` is awaited before the metrics are read; it must not raise."""
        self.registry = registry
        self._refresh = refresh
        self._seconds = Histogram(
            "plaza_http_request_seconds",
            "Time from a request's headers to the last byte of its answer",
            ["method", "route", "status"],
            registry,
        )
        self._refused = Counts(
            "plaza_http_refused_total",
            "Requests that were refused, by the problem they were answered with",
            ["problem"],
            registry,
        )
        self._observers: dict[tuple[str, str, int], Observe] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        observer = self._observers.get((method, route, status))
        if observer is None:
            observer = self._seconds.times(method, route, str(status)).observe
            self._observers[method, route, status] = observer
        observer(seconds)

    def refused(self, problem: str) -> None:
        self._refused.add(1, problem)

    async def text(self) -> bytes:
        """Everything in the registry, as Prometheus reads it."""
        if self._refresh is not None:
            await self._refresh()
        return generate_latest(self.registry)


MEDIA_TYPE = CONTENT_TYPE_LATEST
