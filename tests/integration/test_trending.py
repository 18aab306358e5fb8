"""What trends is what a plain count over the whole history says, now and as of every position."""

import os
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec import structs

from infra.adapters.reads.postgres_discovery import PostgresDemand, PostgresDiscovery
from infra.composition.operations.verifying import verify
from infra.composition.settings import Settings
from infra.ports.discovery import Trend
from infra.ports.log import OPEN
from infra.servers.kafka import start_kafka
from projections import tags
from query_api.trends.live_tags import LiveTags, board_at
from query_api.trends.tag_window import USES_MAX
from tests.asking import discovering
from tests.contract.runners import RUNNERS
from tests.integration.tables import forget_tables
from tests.square import Square

TAGS = ["jazz", "Straße", "東京", "q4", "Café", "ai", "aida"]
FOLDED = dict(zip(TAGS, ["jazz", "strasse", "東京", "q4", "café", "ai", "aida"], strict=True))
DAY = timedelta(hours=24)
HALF_LIFE = timedelta(hours=6)


@dataclass
class Use:
    """One post and its tags, as the plain count knows it."""

    author: str
    position: int
    at: datetime
    tags: set[str]
    ended: float = float("inf")


@dataclass
class Told:
    """A history of random posts, written down by hand while it happens."""

    square: Square
    dice: random.Random
    members: list[str] = field(default_factory=list)
    erased: set[str] = field(default_factory=set)
    uses: dict[str, Use] = field(default_factory=dict)
    times: list[tuple[int, datetime]] = field(default_factory=list)

    async def happen(self, count: int) -> None:
        for _ in range(count):
            self.square.now += timedelta(seconds=self.dice.expovariate(1 / 500))
            await self._one()
            head = await self.square.log.head()
            if not self.times or head > self.times[-1][0]:
                self.times.append((head, self.square.now))

    async def _one(self) -> None:
        living = [member for member in self.members if member not in self.erased]
        chance = self.dice.random()
        if len(living) < 4 or chance < 0.05:
            self.members.append(await self.square.member(f"m{len(self.members)}"))
        elif chance < 0.2 and self.uses:
            post_id = self.dice.choice(list(self.uses))
            use = self.uses[post_id]
            if use.ended == float("inf") and use.author not in self.erased:
                use.ended = await self.square.delete(post_id)
        elif chance < 0.22:
            member = self.dice.choice(living)
            await self.square.erase(member)
            self.erased.add(member)
        else:
            author = self.dice.choice(living[:3] if chance < 0.5 else living)
            chosen = self.dice.sample(TAGS, self.dice.randrange(4))
            text = " ".join(f"#{self.dice.choice([tag, tag.upper()])}" for tag in chosen)
            post_id = await self.square.post(author, text or "nothing")
            position = self.square.posts[post_id][1]
            folded = {FOLDED[tag] for tag in chosen}
            self.uses[post_id] = Use(author, position, self.square.now, folded)

    def board(self, moment: datetime, position: float) -> list[dict[str, Any]]:
        end = moment.replace(microsecond=0)
        end = moment.replace(microsecond=0)
        end = moment.replace(microsecond=0)
        end = moment.replace(microsecond=0)
        end = moment.replace(microsecond=0)
        end = moment.replace(microsecond=0)
        end = moment.replace(microsecond=0)
        latest: dict[str, dict[str, datetime]] = defaultdict(dict)
        for use in self.uses.values():
            stands = use.position <= position < use.ended and use.author not in self.erased
            # In whole seconds: one more or less decides at the edges alone.
            at = use.at.replace(microsecond=0)
            if stands and end - DAY < at <= end:
                for tag in use.tags:
                    known = latest[tag].get(use.author, at)
                    latest[tag][use.author] = max(known, at)
        found = [
            {
                "tag": tag,
                "count": len(authors),
                "score": sum(0.5 ** ((end - at) / HALF_LIFE) for at in authors.values()),
            }
            for tag, authors in latest.items()
        ]
        return sorted(found, key=lambda one: (-one["score"], -one["count"], one["tag"]))


@pytest.fixture
async def discovery(square: Square) -> AsyncIterator[PostgresDiscovery]:
    opened = PostgresDiscovery(square.url)
    yield opened
    await opened.close()


def told_as(board: Sequence[Trend]) -> list[dict[str, Any]]:
    return [{"tag": one.name, "count": one.people, "score": one.score} for one in board]


def assert_same(board: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    counts = {one["tag"]: one["count"] for one in board}
    assert counts == {one["tag"]: one["count"] for one in expected}
    scores = {one["tag"]: one["score"] for one in expected}
    assert board == sorted(board, key=lambda one: (-one["score"], -one["count"], one["tag"]))
    for one in board:
        assert one["score"] == pytest.approx(scores[one["tag"]], abs=1e-4)


async def test_the_board_is_a_plain_count_now_and_as_of_every_position(square: Square) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    told = Told(square, random.Random(seed))
    square.now = datetime.now(UTC) - timedelta(days=30)
    await told.happen(400)
    await square.apply()
    now = square.now + timedelta(minutes=1)
    async with discovering(square, clock=lambda: now) as asked:
        board = await asked.get("/api/trending", limit=100)
        assert_same(board["topics"], told.board(now, 2**62))
        assert board["categories"] == []
        for position, moment in told.dice.sample(told.times, 25):
            as_of = (await asked.get("/api/trending", asOf=position))["topics"]
            assert_same(as_of, told.board(moment, position))
            then = moment.isoformat().replace("+00:00", "Z")
            assert (await asked.get("/api/trending", asOf=then))["topics"] == as_of


@pytest.mark.parametrize("uses_max", [USES_MAX, 12])
async def test_a_board_kept_for_long_is_the_one_made_anew(
    square: Square,
    discovery: PostgresDiscovery,
    uses_max: int,
) -> None:
    """Also where not all that is in the window counts: then by another count of the same rule."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    told = Told(square, random.Random(seed))
    square.now = datetime.now(UTC) - timedelta(days=30)
    kept = LiveTags(discovery, lambda: square.now, uses_max)
    for _ in range(25):
        await told.happen(told.dice.randrange(1, 12))
        await square.apply()
        if told.dice.random() < 0.1:
            square.now += timedelta(hours=told.dice.randrange(30))
        # Where too much was taken back, the first look finds that all has to be read again.
        for _ in range(2):
            assert await kept.filled(60)
            board = await kept.ranked(100)
        assert board == await board_at(discovery, square.now, OPEN, 100, uses_max)
        if uses_max == USES_MAX:
            expected = told.board(square.now, OPEN)
            assert_same(told_as(board), expected)
        else:
            assert sum(trend.people for trend in board) <= uses_max + 4


@pytest.mark.full
async def test_boards_fed_through_faust_are_those_of_the_embedded_worker(
    square: Square, discovery: PostgresDiscovery, tmp_path: Path
) -> None:
    told = Told(square, random.Random(11))
    square.now = datetime.now(UTC) - timedelta(hours=30)
    await told.happen(300)
    head = await square.log.head()
    settings = Settings(postgres_url=square.url)

    async def boards() -> list[Sequence[Trend]]:
        live = LiveTags(discovery, lambda: square.now)
        assert await live.filled(60)
        found = [await live.ranked(100)]
        found += [await board_at(discovery, at, position, 100) for position, at in told.times]
        return found

    await RUNNERS["embedded"](settings, head)
    embedded = await boards()
    assert_same(told_as(embedded[0]), told.board(square.now, OPEN))
    await square.tables.close()
    forget_tables(square.url)
    broker, bootstrap = start_kafka(tmp_path / "kafka", os.environ)
    try:
        await RUNNERS["kafka"](structs.replace(settings, kafka_bootstrap=bootstrap), head)
    finally:
        broker.stop()
    assert await boards() == embedded


async def test_a_table_built_anew_gives_the_board_that_was_served(square: Square) -> None:
    told = Told(square, random.Random(7))
    square.now = datetime.now(UTC) - timedelta(hours=60)
    await told.happen(300)
    await square.apply()
    # Folding again opens what can be opened today, after some authors have been erased.
    assert told.erased
    found = await verify(Settings(postgres_url=square.url), tags.PROJECTION)
    assert (found.different, found.examples) == (0, [])
    standing = [use for use in told.uses.values() if use.tags and use.author not in told.erased]
    assert found.documents == len(standing) + len(told.erased)


async def test_nobody_makes_a_tag_trend_alone(square: Square) -> None:
    loud, ada, bob = [await square.member(name) for name in ("loud", "ada", "bob")]
    events = [square.published(loud, "#buy #buy #BUY") for _ in range(1_000)]
    await square.record_all([(f"post:{event.post_id}", event) for event in events])
    await square.post(ada, "#tea")
    await square.post(bob, "#tea")
    await square.apply()
    async with discovering(square) as asked:
        topics = (await asked.get("/api/trending"))["topics"]
    assert [(topic["tag"], topic["count"]) for topic in topics] == [("tea", 2), ("buy", 1)]


async def test_of_an_erased_member_no_tag_is_left_in_the_tables(square: Square) -> None:
    ada, bob = await square.member("ada"), await square.member("bob")
    await square.post(ada, "#secret")
    await square.post(bob, "#tea")
    await square.apply()
    await square.erase(ada)
    await square.apply()
    with psycopg.connect(square.url) as connection:
        rows = connection.execute("SELECT tags FROM tags_b1.tagged_posts").fetchall()
    assert rows == [(["tea"],)]


async def test_what_one_has_written_is_on_the_board_and_offered_at_once(square: Square) -> None:
    ada = await square.member("ada")
    await square.apply()
    async with discovering(square) as asked:
        assert (await asked.get("/api/trending"))["topics"] == []
        await square.post(ada, "#tea")
        await square.apply()
        assert [t["tag"] for t in (await asked.get("/api/trending"))["topics"]] == ["tea"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "0"])
async def test_nothing_trended_before_the_beginning(square: Square, moment: str) -> None:
    await square.post(await square.member("ada"), "#tea")
    await square.apply()
    async with discovering(square) as asked:
        board = await asked.get("/api/trending", asOf=moment)
    assert board == {"topics": [], "categories": []}


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "asOf=soon", "asOf=2999-01-01T00:00:00Z"]
)
async def test_what_cannot_be_answered_is_refused(square: Square, query: str) -> None:
    await square.apply()
    async with discovering(square) as asked:
        answer = await asked.http.get(f"/api/trending?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_board_without_its_categories_says_so(square: Square) -> None:
    """Of the half that sells there is no table here."""
    await square.post(await square.member("ada"), "#tea")
    demand = PostgresDemand(square.url)
    try:
        async with discovering(square, demand=demand) as asked:
            boards = [
                await asked.get("/api/trending"),
                await asked.get("/api/trending", asOf=square.applied),
            ]
    finally:
        await demand.close()
    for board in boards:
        assert [topic["tag"] for topic in board["topics"]] == ["tea"]
        assert board["categories"] == []
        assert board["degraded"] is True


TOPICS = 20
POSTS = 1_000_000
HOURS_OF_A_TOPIC = 4
# Of very unequal renown; half of them are used for some hours only.
TAG = f"""
    CASE WHEN random() < 0.5 THEN 't' ELSE 't' || n / ({POSTS} * {HOURS_OF_A_TOPIC} / 24) || '_' END
    || (power(random(), 3) * 2500000)::int
"""
BUSY_DAY = f"""
    INSERT INTO tags_b1.tagged_posts (post_id, author_id, created_at, tags, position, until)
    SELECT n, (random() * random() * 200000)::bigint,
           %(noon)s::timestamptz + n * interval '1 day' / {POSTS},
           ARRAY[{TAG}] || CASE WHEN random() < 0.5 THEN ARRAY[{TAG}] END, n, {OPEN}
    FROM generate_series(1, {POSTS}) n
"""
USES = """
    SELECT author_id, floor(extract(epoch FROM created_at))::bigint, tags
    FROM tags_b1.tagged_posts ORDER BY position
"""


@pytest.mark.slow
async def test_of_a_million_tags_the_board_has_those_that_trend(
    square: Square, discovery: PostgresDiscovery
) -> None:
    end = square.now.replace(microsecond=0) + DAY
    latest: dict[str, dict[int, int]] = defaultdict(dict)
    with psycopg.connect(square.url, autocommit=True) as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(BUSY_DAY, {"noon": square.now})
        for author, at, used in connection.execute(USES):
            for tag in used:
                latest[tag][author] = at
    assert len(latest) > 900_000
    weights = {
        tag: sum(
            0.5 ** ((end.timestamp() - at) / HALF_LIFE.total_seconds()) for at in uses.values()
        )
        for tag, uses in latest.items()
    }
    exact = sorted(weights, key=weights.__getitem__, reverse=True)[:TOPICS]
    started = time.perf_counter()
    board = await board_at(discovery, end, OPEN, TOPICS)
    seconds = time.perf_counter() - started
    recall = len({trend.name for trend in board} & set(exact)) / TOPICS
    print(f"{len(latest):,} tags, recall {recall:.2f}, read and counted in {seconds:.1f} s")
    assert recall >= 0.95
