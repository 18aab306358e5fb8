"""What trends is what a plain count over the whole history says, now and as of every position."""

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from infra.adapters.postgres_discovery import PostgresDiscovery
from infra.composition.settings import Settings
from infra.composition.verifying import verify
from infra.ports.discovery import Trend
from infra.ports.log import OPEN
from infra.ports.reads import ReadsUnavailable
from projections import tags
from tests.asking import Asking
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
        latest: dict[str, dict[str, datetime]] = defaultdict(dict)
        for use in self.uses.values():
            stands = use.position <= position < use.ended and use.author not in self.erased
            if stands and moment - DAY < use.at <= moment:
                for tag in use.tags:
                    known = latest[tag].get(use.author, use.at)
                    latest[tag][use.author] = max(known, use.at)
        found = [
            {
                "tag": tag,
                "count": len(authors),
                "score": sum(
                    0.5 ** ((moment - at) / timedelta(hours=6)) for at in authors.values()
                ),
            }
            for tag, authors in latest.items()
        ]
        return sorted(found, key=lambda one: (-one["score"], -one["count"], one["tag"]))


@pytest.fixture
async def square(postgres_url: str) -> AsyncIterator[Square]:
    opened = await Square.open(postgres_url)
    opened.now += timedelta(hours=12)
    yield opened
    await opened.close()


def assert_same(board: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    counts = {one["tag"]: one["count"] for one in board}
    assert counts == {one["tag"]: one["count"] for one in expected}
    scores = {one["tag"]: one["score"] for one in expected}
    assert board == sorted(board, key=lambda one: (-one["score"], -one["count"], one["tag"]))
    for one in board:
        assert one["score"] == pytest.approx(scores[one["tag"]], abs=1e-4)


@asynccontextmanager
async def asking(square: Square, **more: Any) -> AsyncIterator[Asking]:
    discovery = PostgresDiscovery(square.url)
    try:
        async with Asking.open(square, discovery=discovery, **more) as asked:
            yield asked
    finally:
        await discovery.close()


async def test_the_board_is_a_plain_count_now_and_as_of_every_position(square: Square) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    told = Told(square, random.Random(seed))
    square.now = datetime.now(UTC) - timedelta(days=30)
    await told.happen(400)
    await square.apply()
    now = square.now + timedelta(minutes=1)
    async with asking(square, clock=lambda: now) as asked:
        board = await asked.get("/api/trending", limit=100)
        assert_same(board["topics"], told.board(now, 2**62))
        assert board["categories"] == []
        for position, moment in told.dice.sample(told.times, 25):
            as_of = (await asked.get("/api/trending", asOf=position))["topics"]
            assert_same(as_of, told.board(moment, position))
            then = moment.isoformat().replace("+00:00", "Z")
            assert (await asked.get("/api/trending", asOf=then))["topics"] == as_of


async def test_a_table_built_anew_gives_the_board_that_was_served(square: Square) -> None:
    told = Told(square, random.Random(7))
    square.now = datetime.now(UTC) - timedelta(hours=60)
    await told.happen(300)
    await square.apply()
    # Folding again opens what can be opened today, after some authors have been erased.
    assert told.erased
    found = await verify(Settings(postgres_url=square.url), tags.PROJECTION)
    assert (found.different, found.examples) == (0, [])
    assert found.documents == sum(
        bool(use.tags) and use.author not in told.erased for use in told.uses.values()
    )


async def test_nobody_makes_a_tag_trend_alone(square: Square) -> None:
    loud, ada, bob = [await square.member(name) for name in ("loud", "ada", "bob")]
    events = [square.published(loud, "#buy #buy #BUY") for _ in range(1_000)]
    await square.record_all([(f"post:{event.post_id}", event) for event in events])
    await square.post(ada, "#tea")
    await square.post(bob, "#tea")
    await square.apply()
    async with asking(square) as asked:
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
    async with asking(square) as asked:
        assert (await asked.get("/api/trending"))["topics"] == []
        await square.post(ada, "#tea")
        await square.apply()
        assert [t["tag"] for t in (await asked.get("/api/trending"))["topics"]] == ["tea"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "0"])
async def test_nothing_trended_before_the_beginning(square: Square, moment: str) -> None:
    await square.post(await square.member("ada"), "#tea")
    await square.apply()
    async with asking(square) as asked:
        board = await asked.get("/api/trending", asOf=moment)
    assert board == {"topics": [], "categories": []}


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "asOf=soon", "asOf=2999-01-01T00:00:00Z"]
)
async def test_what_cannot_be_answered_is_refused(square: Square, query: str) -> None:
    await square.apply()
    async with asking(square) as asked:
        answer = await asked.http.get(f"/api/trending?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


TOPICS = 20
POSTS = 800_000
# Of very unequal renown.
TAG = "'t' || (power(random(), 3) * 5000000)::int"
BUSY_DAY = f"""
    INSERT INTO tags_b1.tagged_posts (post_id, author_id, created_at, tags, position, until)
    SELECT n, (random() * random() * 200000)::bigint,
           %(noon)s::timestamptz + n * interval '1 day' / {POSTS},
           ARRAY[{TAG}, {TAG}], n, {OPEN}
    FROM generate_series(1, {POSTS}) n
"""
USES = """
    SELECT author_id, extract(epoch FROM created_at)::float8, tags
    FROM tags_b1.tagged_posts ORDER BY position
"""


@pytest.mark.slow
async def test_of_a_million_tags_the_board_has_those_that_trend(square: Square) -> None:
    """A board looks at the newest posts of so busy a day; see ADR 0111 for what that leaves out."""
    noon = square.now
    latest: dict[str, dict[int, float]] = defaultdict(dict)
    with psycopg.connect(square.url, autocommit=True) as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(BUSY_DAY, {"noon": noon})
        connection.execute("VACUUM ANALYZE tags_b1.tagged_posts")
        for author, at, used in connection.execute(USES):
            for tag in used:
                latest[tag][author] = at
    assert len(latest) > 1_000_000
    end = (noon + DAY).timestamp()
    weights = {
        tag: sum(0.5 ** ((end - at) / HALF_LIFE.total_seconds()) for at in authors.values())
        for tag, authors in latest.items()
    }
    exact = sorted(weights, key=weights.__getitem__, reverse=True)[:TOPICS]
    discovery = PostgresDiscovery(square.url)
    board: Sequence[Trend] = ()
    while not board:
        # A server that has much else to do may need longer than a page waits for it.
        with suppress(ReadsUnavailable):
            board = await discovery.tags(noon + DAY, TOPICS)
    await discovery.close()
    recall = len({trend.name for trend in board} & set(exact)) / TOPICS
    print(f"{len(latest):,} tags, recall {recall:.2f}")
    assert recall >= 0.95
