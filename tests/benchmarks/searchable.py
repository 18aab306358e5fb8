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

from infra.adapters.search_client import search_client
from infra.composition.running import read_running
from infra.ports.search_documents import POSTS
from infra.servers.java import JavaMissing, find_java
from tests.benchmarks.freshness import FULL_SPEED_SECONDS, POSTERS, posting, written
from tests.benchmarks.harness import Result
from tests.fault.system import running_system
from tests.fault.world import World

NAME = "searchable"
TARGET_SECONDS = 5.0
SAMPLES = 60
PAUSE_SECONDS = 0.1
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
            with posting(system, tokens, FULL_SPEED_SECONDS) as loader:
                assert loader.stdout is not None
                full_speed = json.loads(await asyncio.to_thread(loader.stdout.read))["rate"]
            client = search_client(search_url(data), GIVE_UP_SECONDS)
            try:
                await quiet(world, client)
                seconds = SAMPLES * (PAUSE_SECONDS + TARGET_SECONDS)
                with posting(system, tokens, seconds, full_speed / 2):
                    ages = sorted(await sampled(world, client))
            finally:
                await client.close()
    return ages[len(ages) * 99 // 100]


def search_url(data: Path) -> str:
    running = read_running(data)
    assert running is not None
    return str(running.settings["opensearch_url"])


async def quiet(world: World, client: AsyncOpenSearch) -> None:
    """Until what was posted at full speed is found."""
    async with aiohttp.ClientSession() as http:
        await age(world, http, client, "quiet")


async def sampled(world: World, client: AsyncOpenSearch) -> list[float]:
    """Seconds from each post's answer to its being found."""
    ages = []
    async with aiohttp.ClientSession() as http:
        for number in range(SAMPLES):
            ages.append(await age(world, http, client, f"sample{number}word"))
            await asyncio.sleep(PAUSE_SECONDS)
    return ages


async def age(
    world: World, http: aiohttp.ClientSession, client: AsyncOpenSearch, word: str
) -> float:
    author = world.members[0]
    _, made = await world.command(
        http, "POST", "/api/posts", {"content": f"about {word}"}, author.token
    )
    answered = time.perf_counter()
    query = {"query": {"match_phrase": {"text": f"about {word}"}}, "_source": False}
    while time.perf_counter() < answered + GIVE_UP_SECONDS:
        try:
            found = await client.search(index=POSTS.alias, body=query)
        except NotFoundError:
            found = {"hits": {"hits": []}}
        if made["postId"] in [hit["_id"] for hit in found["hits"]["hits"]]:
            break
        await asyncio.sleep(0.02)
    return time.perf_counter() - answered
