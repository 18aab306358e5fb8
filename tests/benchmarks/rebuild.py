"""How many events a second rebuild posts and counters, against reading and decoding alone."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg
import uvloop

from domain.events import AnyEvent
from domain.shared.identifiers import id_text
from domain.shared.message import tag_of
from domain.shared.personal import Personal
from domain.social.engagement.events import PostLiked, PostReposted, PostUnliked
from domain.social.post.events import PostDeleted, PostPublished, PostReference
from domain.social.relation.events import Followed, Unfollowed
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.migrations import migrate
from infra.adapters.tables.postgres_builds import PostgresBuilds
from infra.formats.codec import decode_lines, encode_state
from infra.ports.log import Recorded
from infra.runtime.rebuilding.rebuild import load
from projections import engagement, graph, posts
from tests.benchmarks.harness import Result, interleaved
from tests.benchmarks.own_postgres import own_postgres

NAME = "rebuild"
TARGET = 0.15
EVENTS = 300_000
READ_LINES = 20_000
PROJECTIONS = (graph.PROJECTION, posts.PROJECTION, engagement.PROJECTION)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TEXT: Personal[str] = Personal(sealed=bytes(range(160)))


def run(rounds: int) -> Result:
    with own_postgres() as url:
        return measured(url, rounds)


def measured(url: str, rounds: int) -> Result:
    uvloop.run(fill(url, EVENTS))
    return interleaved(
        NAME,
        unit="events/s",
        target=TARGET,
        rounds=rounds,
        measure=lambda: uvloop.run(rebuilt(url, EVENTS)),
        probe=lambda: uvloop.run(read_and_decode(url, EVENTS)),
    )


@dataclass
class Square:
    """Members of unequal activity who follow, post, reply, like and repost, and take it back."""

    count: int
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    members: list[str] = field(default_factory=list)
    published: list[tuple[str, str, int]] = field(default_factory=list)
    ends: list[AnyEvent] = field(default_factory=list)
    seen: set[tuple[str, str, str]] = field(default_factory=set)

    def history(self) -> Iterator[Recorded]:
        self.members = [id_text(1_000_000 + n * 7919) for n in range(max(self.count // 50, 100))]
        for position in range(1, self.count + 1):
            event = None
            while event is None:
                event = self.something(position)
            yield Recorded(
                stream=f"bench:{position}",
                version=1,
                recorded_at=NOON + timedelta(milliseconds=position),
                event=event,
                position=position,
            )

    def something(self, position: int) -> AnyEvent | None:
        chance = self.dice.random()
        if chance < 0.03 and self.ends:
            return self.ends.pop(self.dice.randrange(len(self.ends)))
        if chance < 0.30 or not self.published:
            return self.post(position)
        return self.follow() if chance < 0.60 else self.engage(liking=chance < 0.92)

    def member(self) -> str:
        return self.members[int(len(self.members) * self.dice.random() ** 2)]

    def follow(self) -> AnyEvent | None:
        member, other = self.member(), self.member()
        if member == other or not self.is_new(("follow", member, other)):
            return None
        self.ends.append(Unfollowed(follower_id=member, followee_id=other))
        return Followed(follower_id=member, followee_id=other)

    def engage(self, *, liking: bool) -> AnyEvent | None:
        member = self.member()
        recent = int(len(self.published) * self.dice.random() ** 3)
        post_id, author_id, position = self.published[-1 - recent]
        if not self.is_new(("like" if liking else "repost", member, post_id)):
            return None
        names = {"post_id": post_id, "author_id": author_id, "member_id": member}
        if not liking:
            return PostReposted(**names, post_position=position)
        self.ends.append(PostUnliked(**names))
        return PostLiked(**names)

    def post(self, position: int) -> AnyEvent:
        member, post_id = self.member(), id_text(10**15 + position * 4_000_037)
        parent = None
        if self.published and self.dice.random() < 0.3:
            parent = PostReference(*self.dice.choice(self.published[-1000:])[:2])
        self.published.append((post_id, member, position))
        if self.dice.random() < 0.1:
            self.ends.append(PostDeleted(post_id=post_id, author_id=member, reply_to=parent))
        return PostPublished(
            post_id=post_id,
            author_id=member,
            content=TEXT,
            created_at=NOON + timedelta(milliseconds=position),
            reply_to=parent,
            root=parent,
        )

    def is_new(self, one: tuple[str, str, str]) -> bool:
        before = len(self.seen)
        self.seen.add(one)
        return len(self.seen) > before


async def fill(url: str, count: int) -> None:
    await migrate(url)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = connection.cursor()
        async with cursor.copy(
            "COPY log.events (originator_id, originator_version, topic, state, notification_id)"
            " FROM STDIN"
        ) as copy:
            for recorded in Square(count).history():
                tag = tag_of(type(recorded.event))
                state = encode_state(recorded)
                await copy.write_row((recorded.stream, 1, tag, state, recorded.position))
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("VACUUM ANALYZE log.events")


async def read_and_decode(url: str, count: int) -> float:
    """Events per second of reading the log and decoding it, and nothing more."""
    log = await PostgresEventLog.open(url)
    started = time.perf_counter()
    after = 0
    while after < count:
        lines = await log.read_lines(after, READ_LINES)
        decode_lines(lines)
        after = lines[-1].position
    seconds = time.perf_counter() - started
    await log.close()
    return count / seconds


async def rebuilt(url: str, count: int) -> float:
    """Events per second from empty tables to complete ones, indexes included."""
    log = await PostgresEventLog.open(url)
    builds = PostgresBuilds(url)
    started = time.perf_counter()
    made = await builds.start(PROJECTIONS)
    await load(PROJECTIONS, made, builds, log)
    seconds = time.perf_counter() - started
    await builds.drop(made)
    await log.close()
    return count / seconds
