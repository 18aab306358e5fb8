"""A square for the fan-out benchmarks: members who read, authors they follow, and their posts."""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from domain.shared.identifiers import id_text
from domain.shared.personal import Personal
from domain.social.post.events import PostPublished
from infra.adapters.timelines.redis_timeline_reader import RedisTimelineReader
from infra.adapters.timelines.redis_timelines import RedisTimelines
from infra.formats.packed_timeline import TIMELINE_MAX
from infra.ports.frames import SOCIAL_PARTITIONS, Frame, partition_of
from infra.ports.log import Recorded
from infra.ports.timelines import Brought, Members
from infra.runtime.timelines.fanout import Limits, TimelineFanout
from infra.servers.valkey import start_valkey
from projections.home_timeline import effect_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TEXT: Personal[str] = Personal(sealed=b"x" * 120)
FIRST_ID = 1 << 40
BUILT_AT_ONCE = 500


@contextmanager
def valkey() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        server, url = start_valkey(Path(folder))
        try:
            yield url
        finally:
            server.stop()


@dataclass
class FanoutWorld:
    """`TimelineSources` and the log, from memory, so that nothing but the fan-out is measured."""

    members: int
    authors: int
    followers_each: int
    seed: int = 1
    position: int = TIMELINE_MAX
    graph: dict[int, Members] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chance = np.random.default_rng(self.seed)
        self.dice = random.Random(self.seed)
        for number in range(self.authors):
            followers = chance.choice(self.members, self.followers_each, replace=False)
            self.graph[self.author(number)] = followers.astype(np.int64) + FIRST_ID
        self.tables_at = self.position

    @staticmethod
    def author(number: int) -> int:
        return (FIRST_ID << 1) + number

    def posts(self, count: int) -> list[Frame]:
        """The next posts, by random authors, as the frames of one batch."""
        start = self.position
        by_partition: dict[int, list[Recorded]] = {p: [] for p in SOCIAL_PARTITIONS}
        for _ in range(count):
            self.position += 1
            author_id = id_text(self.author(self.dice.randrange(self.authors)))
            event = PostPublished(
                post_id=id_text(self.position),
                author_id=author_id,
                content=TEXT,
                created_at=NOON,
            )
            by_partition[partition_of(event)].append(
                Recorded(
                    stream=f"post:{self.position}",
                    version=1,
                    recorded_at=NOON,
                    event=event,
                    position=self.position,
                )
            )
        return [
            Frame(partition, start, start + 1, self.position, events)
            for partition, events in by_partition.items()
        ]

    async def followers(
        self,
        partition: int,  # noqa: ARG002
        position: int,  # noqa: ARG002
        author_ids: Collection[int],
        limit: int,
    ) -> Mapping[int, Members]:
        return {author: self.graph[author][:limit] for author in author_ids}

    async def follower_count(self, partition: int, position: int, author_id: int) -> int:  # noqa: ARG002
        return len(self.graph[author_id])

    async def entries(self, *_: int) -> Sequence[Brought]:
        return []

    async def gone(self, positions: Collection[int]) -> Collection[int]:  # noqa: ARG002
        return []

    async def checkpoints(self) -> Mapping[int, int]:
        return dict.fromkeys(SOCIAL_PARTITIONS, self.tables_at)

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:  # noqa: ARG002
        raise AssertionError("no frame is missing")

    async def head(self) -> int:
        return self.position


@asynccontextmanager
async def fanning_out(url: str, world: FanoutWorld) -> AsyncIterator[TimelineFanout]:
    """A worker on a Redis where every member has a full timeline."""
    store = RedisTimelines(url)
    reader = RedisTimelineReader(url, wait_seconds=10.0)
    await store.open()
    await reader.open()
    assert await store.wait_until_reachable(5)
    assert await reader.wait_until_reachable(5)
    fanout = TimelineFanout(
        store,
        world,
        world,  # type: ignore[arg-type]
        effect_of,
        limits=Limits(celebrities_from=world.followers_each + 1),
    )
    if await store.load() is None:
        await fanout.catch_up()
        full = [(position, position) for position in range(TIMELINE_MAX, 0, -1)]
        for start in range(0, world.members, BUILT_AT_ONCE):
            numbers = range(start, min(start + BUILT_AT_ONCE, world.members))
            begun = await asyncio.gather(*(reader.begin(FIRST_ID + n) for n in numbers))
            built = [reader.finish(each, TIMELINE_MAX, full) for each in begun if each is not None]
            assert all(await asyncio.gather(*built))
    yield fanout
    await reader.close()
    await store.close()
