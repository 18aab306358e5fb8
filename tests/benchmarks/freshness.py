"""How old a post is when a follower's page shows it, while half of what is possible is posted.

From the answer to the post to the answer to the page that has it, p99; through the embedded system,
and through Kafka and a Faust worker.
"""

import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import uvloop

from infra.servers.java import JavaMissing, find_java
from tests.benchmarks.harness import Result
from tests.fault.system import System, running_system
from tests.fault.world import World

NAME = "freshness"
TARGETS_SECONDS = {"embedded": 1.0, "full": 2.0}
POSTERS = 40
CONNECTIONS = 32
FULL_SPEED_SECONDS = 4
SAMPLES = 100
PAUSE_SECONDS = 0.1
HERE = Path(__file__).parent


def run(rounds: int) -> list[Result]:
    results = []
    for mode, target in TARGETS_SECONDS.items():
        try:
            find_java(os.environ)
        except JavaMissing:
            if mode == "full":
                continue
        found = sorted(uvloop.run(p99(mode)) for _ in range(max(1, rounds // 2)))
        results.append(
            Result(
                name=f"{NAME}_{mode}",
                value=found[len(found) // 2],
                unit="s",
                probe=math.nan,
                ratio=math.nan,
                target=target,
                spread=(found[0], found[-1]),
            )
        )
    return results


async def p99(mode: str) -> float:
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        async with running_system(Path(folder, "data"), full=mode == "full") as system:
            world = World(system.command_url, system.query_url, 1)
            await world.register(POSTERS + 2)
            tokens = written(world, Path(folder, "tokens"))
            with posting(system, tokens, FULL_SPEED_SECONDS) as loader:
                assert loader.stdout is not None
                printed = await asyncio.to_thread(loader.stdout.read)
                full_speed = json.loads(printed)["rate"]
            seconds = SAMPLES * PAUSE_SECONDS * 3
            with posting(system, tokens, seconds, full_speed / 2):
                ages = sorted(await sampled(world))
    return ages[len(ages) * 99 // 100]


@contextmanager
def posting(
    system: System, tokens: Path, seconds: float, rate: float = 0.0
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [
            *(sys.executable, HERE / "posting_client.py"),
            *map(str, (system.command_port, CONNECTIONS, seconds, rate)),
        ],
        env={**os.environ, "TOKENS": str(tokens), "BODY": json.dumps({"content": "And so on."})},
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def written(world: World, file: Path) -> Path:
    file.write_text("\n".join(member.token for member in world.members[2:]))
    return file


async def sampled(world: World) -> list[float]:
    """Ages of posts in seconds when the page of a follower of their author shows them."""
    author, reader = world.members[:2]
    ages = []
    async with aiohttp.ClientSession() as http:
        await world.command(http, "POST", f"/api/users/{author.id}/follow", None, reader.token)
        for number in range(SAMPLES):
            body = {"content": f"sample {number}"}
            _, made = await world.command(http, "POST", "/api/posts", body, author.token)
            answered = time.perf_counter()
            while True:
                page = await world.query(http, "/api/feed?limit=5&mode=latest", reader.token)
                if made["postId"] in [post["postId"] for post in page["posts"]]:
                    break
                await asyncio.sleep(0.002)
            ages.append(time.perf_counter() - answered)
            await asyncio.sleep(PAUSE_SECONDS)
    return ages
