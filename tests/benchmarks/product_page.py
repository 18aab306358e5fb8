"""CPU of the query service for one product's page, against a hello-world of as many bytes."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import uvloop
from starlette.types import Receive, Scope, Send

from infra.adapters.log.event_log import PostgresEventLog
from infra.composition.services import projection_worker
from infra.composition.settings import Settings
from infra.http.server import serve as serve_http
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.runtime.frames.embedded import EmbeddedRunner
from infra.servers.postgres import start_postgres
from infra.servers.valkey import start_valkey
from projections import COMMERCE
from tests.benchmarks.buying_world import made_members
from tests.benchmarks.feed_world import Load, Served, load, serve_feeds, served
from tests.benchmarks.harness import Result

NAME = "product_page"
TARGET = 0.5
PRODUCTS = 50
CONNECTIONS = 64
ROUND_SECONDS = 3.0


class Hello:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(self._body)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})


async def serve_hello(size: int, ready: Callable[[int], None]) -> None:
    await serve_http(Hello(b"x" * size), "127.0.0.1", 0, ready)


def run(rounds: int) -> Result:
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        postgres, url = start_postgres(Path(folder) / "postgres")
        valkey, redis_url = start_valkey(Path(folder) / "valkey")
        try:
            settings = Settings(postgres_url=url, redis_url=redis_url, query_api_port=0)
            tokens, _, products = asyncio.run(made_members(settings, 20, PRODUCTS))
            uvloop.run(folded(settings))
            with served(serve_feeds, settings) as service:
                return uvloop.run(measured(service, tokens, products, rounds))
        finally:
            postgres.stop()
            valkey.stop()


async def folded(settings: Settings) -> None:
    """The products, in the tables that the service reads."""
    log = await PostgresEventLog.open(settings.postgres_url)
    async with contextlib.AsyncExitStack() as stack:
        await projection_worker.renew(settings, COMMERCE, log)
        applier = await projection_worker.tables(settings, COMMERCE, log, stack)
        await EmbeddedRunner(log, applier, COMMERCE_PARTITIONS).run_to(await log.head())
    await log.close()


async def measured(service: Served, tokens: list[str], products: list[str], rounds: int) -> Result:
    path = f"/api/products/{products[0]}"
    seen = await load(service.port, path, tokens, CONNECTIONS, 1.0)
    size = round(seen.bytes_per_request)
    with served(serve_hello, size) as hello:
        values, probes = [], []
        for _ in range(rounds):
            probes.append(await spent(hello, path, tokens))
            values.append(await spent(service, path, tokens))
    ratios = [probe / value for value, probe in zip(values, probes, strict=True)]
    return Result(
        name=NAME,
        value=median(values),
        unit="µs CPU",
        probe=median(probes),
        ratio=median(ratios),
        target=TARGET,
        spread=(min(ratios), max(ratios)),
    )


async def spent(server: Served, path: str, tokens: list[str]) -> float:
    """Microseconds of CPU that the server's process took for one request."""
    before = server.cpu_seconds()
    seen: Load = await load(server.port, path, tokens, CONNECTIONS, ROUND_SECONDS)
    used = server.cpu_seconds() - before
    if seen.refused:
        raise AssertionError(f"{seen.refused} refused")
    return used / seen.requests * 1e6
