"""CPU of the query service for one page of 20 items, against a hello-world of as many bytes.

The members' timelines are kept, and the service's caches warm; one item in ten is a repost. Nothing
new comes meanwhile: what a page costs whose timeline has grown is in `docs/benchmarks.md`. Both run
on the same HTTP server, each in a process of its own, whose CPU time is what is measured; the probe
is an ASGI application as one writes it, which knows nothing of what our server offers besides.
"""

import tempfile
from pathlib import Path
from statistics import median

import uvloop

from infra.composition.settings import Settings
from infra.servers.postgres import start_postgres
from infra.servers.valkey import start_valkey
from tests.benchmarks.feed_world import (
    FeedWorld,
    Served,
    Size,
    filled,
    load,
    serve_feeds,
    serve_hello,
    served,
)
from tests.benchmarks.harness import Result

NAME = "feed_read"
TARGET = 0.55
CONNECTIONS = 64
ROUND_SECONDS = 3.0
WARM_SECONDS = 3.0
BYTES_MIN = 8_000


def run(rounds: int) -> Result:
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        postgres, postgres_url = start_postgres(Path(folder) / "postgres")
        valkey, redis_url = start_valkey(Path(folder) / "valkey")
        try:
            return uvloop.run(measured(postgres_url, redis_url, rounds))
        finally:
            postgres.stop()
            valkey.stop()


async def measured(postgres_url: str, redis_url: str, rounds: int) -> Result:
    world = FeedWorld(Size())
    settings = Settings(postgres_url=postgres_url, redis_url=redis_url, query_api_port=0)
    async with filled(world, postgres_url, redis_url):
        with served(serve_hello) as hello, served(serve_feeds, settings) as feeds:
            await spent(feeds, world.tokens, WARM_SECONDS)
            values, probes = [], []
            for _ in range(rounds):
                probes.append(await spent(hello, world.tokens, ROUND_SECONDS))
                values.append(await spent(feeds, world.tokens, ROUND_SECONDS))
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


async def spent(server: Served, tokens: list[str], seconds: float) -> float:
    """Microseconds of CPU that the server's process took for one request."""
    before = server.cpu_seconds()
    seen = await load(server.port, "/api/feed", tokens, CONNECTIONS, seconds)
    used = server.cpu_seconds() - before
    if seen.refused or seen.bytes_per_request < BYTES_MIN:
        raise AssertionError(f"{seen.refused} refused, {seen.bytes_per_request:.0f} bytes each")
    return used / seen.requests * 1e6
