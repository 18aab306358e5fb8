"""How long after its commit a post is found by a word, while half of what is possible is posted.

From the answer to the post to the answer of the search server that has it, p99; through the
embedded system, and through Kafka, a Faust worker and OpenSearch.
"""

import asyncio
import json
import math
import os
import tempfile
import time
from pathlib import Path

import aiohttp
import uvloop
from opensearchpy import AsyncOpenSearch, NotFoundError
from opensearchpy import ConnectionError as OpenSearchConnectionError

from infra.adapters.search.search_client import search_client
from infra.composition.supervision.running import read_running
from infra.ports.search_documents import POSTS
from infra.servers.java import JavaMissing, find_java
from tests.benchmarks.freshness import FULL_SPEED_SECONDS, POSTERS, posting, written
from tests.benchmarks.harness import Result
from tests.fault.system import running_system
from tests.fault.world import World

NAME = "searchable"
TARGET_SECONDS = 5.0
SAMPLES = 100
EVERY_SECONDS = 0.2
LOOK_SECONDS = 0.1
"""Ages are at most so much too long; asking more often would slow down what is measured."""
GIVE_UP_SECONDS = 60.0


def run(rounds: int) -> list[Result]:
    results = []
    for mode in modes():
        found = sorted(uvloop.run(p99(mode)) for _ in range(max(1, rounds // 2)))
        results.append(
            Result(
                name=f"{NAME}_{mode}",
                value=found[len(found) // 2],
                unit="s",
                probe=math.nan,
                ratio=math.nan,
                target=TARGET_SECONDS,
                spread=(found[0], found[-1]),
            )
        )
    return results


def modes() -> list[str]:
    try:
        find_java(os.environ)
    except JavaMissing:
        return ["embedded"]
    return ["embedded", "full"]


async def p99(mode: str) -> float:
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        data = Path(folder, "data")
        async with running_system(data, full=mode == "full") as system:
            world = World(system.command_url, system.query_url, 1)
            await world.register(POSTERS + 2)
            tokens = written(world, Path(folder, "tokens"))
            client = search_client(search_url(data), GIVE_UP_SECONDS)
            try:
                await quiet(world, client, "first")
                with posting(system, tokens, FULL_SPEED_SECONDS) as loader:
                    assert loader.stdout is not None
                    printed = await asyncio.to_thread(loader.stdout.read)
                await quiet(world, client, "quiet")
                seconds = SAMPLES * EVERY_SECONDS + 2 * GIVE_UP_SECONDS
                with posting(system, tokens, seconds, json.loads(printed)["rate"] / 2):
                    ages = sorted(await sampled(world, client))
            finally:
                await client.close()
    return ages[len(ages) * 99 // 100]


def search_url(data: Path) -> str:
    running = read_running(data)
    assert running is not None
    return str(running.settings["opensearch_url"])


async def quiet(world: World, client: AsyncOpenSearch, word: str) -> None:
    """Until what was posted before is found; the search server may still be starting."""
    watch = Watch(client)
    async with aiohttp.ClientSession() as http:
        await watch.post(http, world, word)
    await watch.until_found()
    if watch.given_up:
        raise TimeoutError(f"nothing is found {GIVE_UP_SECONDS:g} s after it was posted")


async def sampled(world: World, client: AsyncOpenSearch) -> list[float]:
    """Seconds from each post's answer to its being found. They are posted at their times, however
    long those before them take."""
    watch = Watch(client)
    loop = asyncio.get_running_loop()
    watching = asyncio.create_task(watch.run())
    began = loop.time()
    async with aiohttp.ClientSession() as http:
        for number in range(SAMPLES):
            await asyncio.sleep(began + number * EVERY_SECONDS - loop.time())
            await watch.post(http, world, f"sample{number}word")
    watching.cancel()
    await watch.until_found()
    return watch.ages


class Watch:
    """Asks for all posts that are not found yet at once, so that asking costs the same always."""

    def __init__(self, client: AsyncOpenSearch) -> None:
        self._client = client
        self._answered: dict[str, float] = {}
        self.ages: list[float] = []
        self.given_up = 0

    async def post(self, http: aiohttp.ClientSession, world: World, word: str) -> None:
        author = world.members[0]
        body = {"content": f"about {word}"}
        await world.command(http, "POST", "/api/posts", body, author.token)
        self._answered[word] = time.perf_counter()

    async def run(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(LOOK_SECONDS)

    async def until_found(self) -> None:
        """Until each post is found, or has not been for so long that it counts for that."""
        while self._answered:
            await self._look()
            now = time.perf_counter()
            late = [w for w, at in self._answered.items() if now > at + GIVE_UP_SECONDS]
            for word in late:
                self.ages.append(now - self._answered.pop(word))
            self.given_up += len(late)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        words = list(self._answered)
        query = {"query": {"terms": {"text": words}}, "size": SAMPLES, "_source": ["text"]}
        try:
            found = await self._client.search(index=POSTS.alias, body=query)
        except (NotFoundError, OpenSearchConnectionError):
            # It has only just been started.
            return
        now = time.perf_counter()
        for hit in found["hits"]["hits"]:
            word = hit["_source"]["text"].removeprefix("about ")
            if word in self._answered:
                self.ages.append(now - self._answered.pop(word))
