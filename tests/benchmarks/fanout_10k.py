"""How long one post takes to reach the timelines of 10,000 followers, the last of them included.

From its frame in memory to its position in Redis: every timeline is full, none of the followers is
known to the worker yet.
"""

import math
import time

import uvloop

from tests.benchmarks.fanout_world import FanoutWorld, fanning_out, valkey
from tests.benchmarks.harness import Result

NAME = "fanout_10k"
TARGET_SECONDS = 1.0
FOLLOWERS = 10_000


def run(rounds: int) -> Result:
    world = FanoutWorld(members=FOLLOWERS, authors=1, followers_each=FOLLOWERS)
    with valkey() as url:
        seconds = [uvloop.run(one_post(url, world)) for _ in range(rounds)]
    worst = max(seconds)
    return Result(
        name=NAME,
        value=worst,
        unit="s",
        probe=math.nan,
        ratio=math.nan,
        target=TARGET_SECONDS,
        spread=(min(seconds), worst),
    )


async def one_post(url: str, world: FanoutWorld) -> float:
    async with fanning_out(url, world) as fanout:
        await fanout.checkpoints()
        frames = world.posts(1)
        started = time.perf_counter()
        await fanout.apply(frames)
        seconds = time.perf_counter() - started
        assert fanout.counts.deliveries == FOLLOWERS
        return seconds
