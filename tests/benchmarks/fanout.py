"""How many deliveries a second one worker makes, against `redis-benchmark -P 200` with ZADD.

A delivery is one post put into one follower's timeline; each post has 200 followers, and every
timeline is full. The probe does the same the usual way, one ZADD a delivery: timelines as sorted
sets, as many and as full, each command to a random one of them (`-r N zadd z:__rand_int__ …`).
`redis-benchmark`'s built-in test `-t zadd` is not that: it updates one set, `myzset`, which stays
in the processor's caches, at a third to two thirds of the cost; no fan-out writes to one key.
Where there is no `redis-benchmark`, the same commands, encoded before the clock starts, go through
one raw socket in the same batches, which reaches the same rate.
"""

import random
import re
import shutil
import socket
import subprocess
import time
from urllib.parse import urlsplit

import hiredis
import redis
import uvloop

from infra.adapters.timelines.redis_connection import command
from infra.formats.packed_timeline import TIMELINE_MAX
from tests.benchmarks.fanout_world import FanoutWorld, fanning_out, valkey
from tests.benchmarks.harness import Result, interleaved

NAME = "fanout"
TARGET = 3.5
BYTES_PER_ENTRY_MAX = 10
MEMBERS = 2000
AUTHORS = 500
FOLLOWERS = 200
POSTS = 4000
BATCH = 1000
PIPELINE = 200
PROBE_COMMANDS = 300_000
WINDOW = 2


def run(rounds: int) -> Result:
    world = FanoutWorld(MEMBERS, AUTHORS, FOLLOWERS)
    with valkey() as url:
        fill_sorted_sets(url)
        uvloop.run(deliveries(url, world, POSTS // 4))
        result = interleaved(
            NAME,
            unit="deliveries/s",
            target=TARGET,
            rounds=rounds,
            measure=lambda: uvloop.run(deliveries(url, world, POSTS)),
            probe=lambda: sorted_set_rate(url),
        )
        used = bytes_per_entry(url)
        assert used <= BYTES_PER_ENTRY_MAX, f"{used:.1f} bytes an entry"
    return result


async def deliveries(url: str, world: FanoutWorld, posts: int) -> float:
    """Deliveries a second, from frames in memory to positions stored in Redis."""
    async with fanning_out(url, world) as fanout:
        await fanout.apply(world.posts(BATCH // 4))
        batches = [world.posts(BATCH) for _ in range(posts // BATCH)]
        before = fanout.counts.deliveries
        started = time.perf_counter()
        for frames in batches:
            await fanout.apply(frames)
        seconds = time.perf_counter() - started
        made = fanout.counts.deliveries - before
        assert made == len(batches) * BATCH * FOLLOWERS
        assert set((await fanout.checkpoints()).values()) == {world.position}
        return made / seconds


def bytes_per_entry(url: str) -> float:
    """What a full timeline takes of Redis's memory, keys and all, for each entry that counts."""
    with redis.Redis.from_url(url) as client:
        names = list(client.scan_iter("t:*", count=1000))
        assert len(names) == MEMBERS
        return sum(client.memory_usage(name) or 0 for name in names) / MEMBERS / TIMELINE_MAX


def fill_sorted_sets(url: str) -> None:
    chance = random.Random(1)
    with redis.Redis.from_url(url) as client:
        for number in range(MEMBERS):
            entries = chance.sample(range(MEMBERS), TIMELINE_MAX)
            members = {f"{entry:012d}": chance.randrange(MEMBERS) for entry in entries}
            client.zadd(f"z:{number:012d}", members)


def sorted_set_rate(url: str) -> float:
    program = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
    return by_program(program, url) if program else by_socket(url)


def by_program(program: str, url: str) -> float:
    parts = urlsplit(url)
    random_number = "__rand_int__"
    done = subprocess.run(
        [
            *(program, "-h", parts.hostname or "", "-p", str(parts.port)),
            *("-P", str(PIPELINE), "-r", str(MEMBERS), "-n", str(PROBE_COMMANDS), "-q"),
            *("ZADD", f"z:{random_number}", random_number, random_number),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.findall(r"([\d.]+) requests per second", done.stdout)
    return float(found[-1])


def by_socket(url: str) -> float:
    parts = urlsplit(url)
    chance = random.Random()

    def one() -> bytes:
        key, score, member = (f"{chance.randrange(MEMBERS):012d}" for _ in range(3))
        return command("ZADD", f"z:{key}", score, member)

    batches = [
        b"".join([one() for _ in range(PIPELINE)]) for _ in range(PROBE_COMMANDS // PIPELINE)
    ]
    with socket.create_connection((parts.hostname or "", parts.port or 6379)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = hiredis.Reader()
        missing = 0
        started = time.perf_counter()
        for batch in [*batches, b""]:
            connection.sendall(batch)
            missing += PIPELINE if batch else 0
            # The next batch is on its way before the last answers are read.
            while missing > (PIPELINE * WINDOW if batch else 0):
                reader.feed(connection.recv(1 << 20))
                while reader.gets() is not False:
                    missing -= 1
        return PROBE_COMMANDS / (time.perf_counter() - started)
