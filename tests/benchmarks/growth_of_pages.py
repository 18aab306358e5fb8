"""What a feed page costs against the length of its timeline, and against how many are followed.

The kept timeline is asked for by two kinds of readers: those to whom nothing new has come since
they last asked, and, as the page of a timeline in the past, those whose page is pulled from the
tables, which is what depends on how many are followed.
"""

import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import uvloop

from infra.composition.settings import Settings
from infra.servers.postgres import start_postgres
from infra.servers.valkey import start_valkey
from tests.benchmarks.feed_world import (
    Served,
    filled,
    follow,
    load,
    serve_feeds,
    served,
)
from tests.benchmarks.harness import Curve
from tests.square import Square

LENGTHS = (8, 80, 800)
FOLLOWEES = (10, 100, 1_000)
READERS = 40
POSTS = 12_000
RECORDED_AT_ONCE = 1_000
CONNECTIONS = 32
WARM_SECONDS = 1.0
ROUND_SECONDS = 2.0
ROUNDS = 3
PAST_CONNECTIONS = 4
TIMES_MAX = 2.0
PULLED_TIMES_MAX = 10.0


@dataclass
class GrowingSquare:
    """Groups of readers by what they follow; see `tests.benchmarks.feed_world.filled`."""

    by_length: list[list[str]] = field(default_factory=list)
    by_followees: list[list[str]] = field(default_factory=list)

    async def fill(self, square: Square) -> None:
        """Authors who have written exactly so much for the first, and many authors, who have all
        written about as much, for the second."""
        dice = random.Random(1)
        counted = [await square.member(f"wrote_{length}") for length in LENGTHS]
        authors = [await square.member(f"author_{n}") for n in range(max(FOLLOWEES))]
        for length, author in zip(LENGTHS, counted, strict=True):
            self.by_length.append(await self._readers(square, f"of_{length}", [author]))
        for count in FOLLOWEES:
            chosen = dice.sample(authors, count)
            self.by_followees.append(await self._readers(square, f"follow_{count}", chosen))
        writers = [author for n, author in zip(LENGTHS, counted, strict=True) for _ in range(n)]
        writers += [dice.choice(authors) for _ in range(POSTS)]
        dice.shuffle(writers)
        for start in range(0, len(writers), RECORDED_AT_ONCE):
            await self._write(square, dice, writers[start : start + RECORDED_AT_ONCE])
        await square.apply()

    async def _readers(self, square: Square, name: str, authors: Sequence[str]) -> list[str]:
        readers = [await square.member(f"{name}_{number}") for number in range(READERS)]
        for reader in readers:
            await square.record_all([follow(reader, author) for author in authors])
        return [square.tokens.sign(square.session(reader)) for reader in readers]

    async def _write(self, square: Square, dice: random.Random, authors: Sequence[str]) -> None:
        posts = [
            square.published(author, "lorem ipsum dolor " * dice.randint(4, 8))
            for author in authors
        ]
        await square.record_all([(f"post:{post.post_id}", post) for post in posts])


def page_costs() -> list[Curve]:
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        postgres, postgres_url = start_postgres(Path(folder) / "postgres")
        valkey, redis_url = start_valkey(Path(folder) / "valkey")
        try:
            return uvloop.run(measured(postgres_url, redis_url))
        finally:
            postgres.stop()
            valkey.stop()


async def measured(postgres_url: str, redis_url: str) -> list[Curve]:
    world = GrowingSquare()
    settings = Settings(postgres_url=postgres_url, redis_url=redis_url, query_api_port=0)
    async with filled(world, postgres_url, redis_url) as square:
        past = f"/api/feed?asOf={square.applied}"
        with served(serve_feeds, settings) as server:
            lengths = [await spent(server, tokens) for tokens in world.by_length]
            followees = [await spent(server, tokens) for tokens in world.by_followees]
            pulled = [await waited(server, past, tokens) for tokens in world.by_followees]
    return [
        Curve("feed page", "entries in the timeline", LENGTHS, lengths, "µs CPU", TIMES_MAX),
        Curve("feed page", "accounts followed", FOLLOWEES, followees, "µs CPU", TIMES_MAX),
        Curve("pulled page", "accounts followed", FOLLOWEES, pulled, "ms", PULLED_TIMES_MAX),
    ]


async def spent(server: Served, tokens: Sequence[str]) -> float:
    """Microseconds of CPU that the server's process takes for one page."""
    await load(server.port, "/api/feed", tokens, CONNECTIONS, WARM_SECONDS)
    costs = []
    for _ in range(ROUNDS):
        before = server.cpu_seconds()
        seen = await load(server.port, "/api/feed", tokens, CONNECTIONS, ROUND_SECONDS)
        assert seen.refused == 0
        costs.append((server.cpu_seconds() - before) / seen.requests * 1e6)
    return median(costs)


async def waited(server: Served, path: str, tokens: Sequence[str]) -> float:
    """Milliseconds that a page takes when a few readers ask."""
    await load(server.port, path, tokens, PAST_CONNECTIONS, WARM_SECONDS)
    costs = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        seen = await load(server.port, path, tokens, PAST_CONNECTIONS, ROUND_SECONDS)
        assert seen.refused == 0
        elapsed = time.perf_counter() - started
        costs.append(elapsed * PAST_CONNECTIONS / seen.requests * 1000)
    return median(costs)
