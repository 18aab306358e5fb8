"""One look at everything that runs on a data folder: its log, its read models and its processes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from infra.adapters.system_view import SystemView
from infra.adapters.timelines.redis_timeline_reader import RedisTimelineReader
from infra.composition.settings import Settings, service_address
from infra.composition.supervision.process_metrics import Target, read_targets
from infra.ports.log import LogUnavailable
from infra.ports.system_state import SystemState
from infra.ports.timelines import TimelinesUnavailable

SCRAPE_SECONDS = 2.0
SCRAPE_BYTES_MAX = 16 * 1024 * 1024
REDIS_SECONDS = 2.0

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """The samples that one process served, by metric and labels."""

    process: str
    job: str
    samples: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)
    answered: bool = True

    def of(self, name: str) -> Mapping[Labels, float]:
        return self.samples.get(name, {})

    def sum(self, name: str, **labels: str) -> float:
        """The sum of a metric over all of its series that have these labels."""
        wanted = frozenset(labels.items())
        return sum(value for having, value in self.of(name).items() if wanted <= having)


@dataclass(frozen=True)
class Look:
    """What was seen at one moment; `state` is None where PostgreSQL did not answer."""

    at: float
    state: SystemState | None
    scrapes: Sequence[Scrape]

    def sum(self, name: str, **labels: str) -> float:
        return sum(scrape.sum(name, **labels) for scrape in self.scrapes)


class Watcher:
    """Looks at the system that the settings lead to."""

    def __init__(
        self, view: SystemView, http: aiohttp.ClientSession, targets: Sequence[Target]
    ) -> None:
        self._view = view
        self._http = http
        self.targets = targets

    async def look(self) -> Look:
        """Raises nothing: what does not answer is missing from what is seen."""
        state, scrapes = await asyncio.gather(
            self._state(), asyncio.gather(*(self._scrape(target) for target in self.targets))
        )
        return Look(time.time(), state, scrapes)

    async def _state(self) -> SystemState | None:
        with contextlib.suppress(LogUnavailable):
            return await self._view.look()
        return None

    async def _scrape(self, target: Target) -> Scrape:
        process, job = target.labels["process"], target.labels["job"]
        text = await self.ask(target, "/metrics")
        if text is None:
            return Scrape(process, job, answered=False)
        return Scrape(process, job, parsed(text))

    async def ask(self, target: Target, path: str) -> str | None:
        """What a process answers to a GET; None where it does not, or not within the bounds."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, UnicodeDecodeError):
            async with self._http.get(f"http://{target.targets[0]}{path}") as answer:
                if answer.status == 200:
                    return await whole_text(answer)
        return None


async def whole_text(answer: aiohttp.ClientResponse) -> str | None:
    """A body to its end; None for one that is too long to keep."""
    body = bytearray()
    async for part in answer.content.iter_any():
        body += part
        if len(body) > SCRAPE_BYTES_MAX:
            return None
    return body.decode()


@contextlib.asynccontextmanager
async def watching(settings: Settings) -> AsyncIterator[Watcher]:
    """A watcher, for as long as this is open. Its connections are made when it first looks."""
    async with contextlib.AsyncExitStack() as stack:
        timelines = (
            RedisTimelineReader(settings.redis_url, REDIS_SECONDS) if settings.redis_url else None
        )
        if timelines is not None:
            await timelines.open()
            stack.push_async_callback(timelines.close)
            await timelines.wait_until_reachable(REDIS_SECONDS)

        async def kept() -> Mapping[int, int]:
            try:
                return {} if timelines is None else await timelines.applied()
            except TimelinesUnavailable:
                return {}

        view = await SystemView.open(settings.postgres_url, kept)
        stack.push_async_callback(view.close)
        timeout = aiohttp.ClientTimeout(total=SCRAPE_SECONDS)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        yield Watcher(view, http, targets_of(settings))


def targets_of(settings: Settings) -> list[Target]:
    """The processes of the system on this data folder, or else the two services by their ports."""
    return read_targets(settings.folder) or [
        Target(
            [service_address(settings, port).removeprefix("http://")],
            {"job": job, "process": job},
        )
        for job, port in (
            ("command-api", settings.command_api_port),
            ("query-api", settings.query_api_port),
        )
    ]


def parsed(text: str) -> dict[str, dict[Labels, float]]:
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return samples


def quantile(share: float, buckets: Iterable[tuple[float, float]]) -> float | None:
    """A quantile of a histogram of (upper limit, count up to it), as Prometheus estimates it."""
    ordered = sorted(buckets)
    if not ordered or ordered[-1][1] <= 0:
        return None
    wanted = share * ordered[-1][1]
    below_limit, below = 0.0, 0.0
    for limit, count in ordered:
        if count >= wanted:
            if limit == float("inf"):
                return below_limit
            part = (wanted - below) / (count - below) if count > below else 1.0
            return below_limit + (limit - below_limit) * part
        below_limit, below = limit, count
    return below_limit
