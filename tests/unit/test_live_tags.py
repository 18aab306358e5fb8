"""What trends now is shown while it is being read, and read again where the tables are others."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from infra.ports.discovery import TagChanges, Uses, UsesRead
from infra.ports.log import OPEN
from query_api.trends.live_tags import LiveTags

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT_ONCE = 2


@dataclass
class Post:
    position: int
    author: int
    tag: int
    until: int = OPEN


def columns(posts: Sequence[Post]) -> Uses:
    begun = int(NOW.timestamp()) - 60
    rows = [(post.tag, post.author, begun + post.position, post.position) for post in posts]
    return Uses(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)


@dataclass
class Table:
    """`infra.ports.discovery.TagUses` over a list; `before_part` is awaited before a part is handed
    over that was read."""

    posts: list[Post]
    build: int = 1
    before_part: Callable[[], asyncio.Future[None]] | None = None
    reads: int = 0
    changed: dict[int, int] = field(default_factory=dict)

    @property
    def reached(self) -> int:
        return max([post.position for post in self.posts] + list(self.changed.values()))

    def delete(self, place: int) -> None:
        position = self.reached + 1
        self.posts[place] = replace(self.posts[place], until=position)
        self.changed[self.posts[place].author] = position

    async def window_begins(self, moment: datetime) -> int:
        return 0 if moment > NOW - timedelta(days=1) else OPEN

    async def uses(self, after: int, last: int, since: datetime, position: int = OPEN) -> UsesRead:
        assert since == NOW - timedelta(days=1)
        assert position == OPEN
        rows = [post for post in reversed(self.posts) if after < post.position <= last][:AT_ONCE]
        found = columns([post for post in rows if post.until == OPEN])
        self.reads += len(rows)
        if after == 0 and self.before_part is not None:
            await self.before_part()
        return UsesRead(found, rows[-1].position if len(rows) == AT_ONCE else None)

    async def uses_of(self, authors: Collection[int], since: datetime) -> Uses:
        assert since == NOW - timedelta(days=1)
        return columns([p for p in self.posts if p.author in authors and p.until == OPEN])

    async def tag_changes(self, after: int, since: datetime) -> TagChanges:
        assert since == NOW - timedelta(days=1)
        authors = [author for author, position in self.changed.items() if position > after]
        return TagChanges(self.build, self.reached, authors)

    async def tag_names(self, tags: Sequence[int], positions: Sequence[int]) -> Mapping[int, str]:
        assert len(tags) == len(positions)
        return {tag: f"tag{tag}" for tag in tags}


def table(count: int = 7) -> Table:
    return Table([Post(position, position % 3, position % 2) for position in range(1, count + 1)])


async def board(live: LiveTags) -> dict[str, int]:
    return {trend.name: trend.people for trend in await live.ranked(10)}


async def test_what_has_been_read_is_shown_while_the_rest_is_read() -> None:
    posts = table()
    held: asyncio.Future[None] = asyncio.Future()
    posts.before_part = lambda: held
    live = LiveTags(posts, lambda: NOW)
    assert not await live.filled(0)
    # What is new is there at once, whatever is still to be read.
    posts.posts.append(Post(8, 9, 5))
    assert await board(live) == {"tag5": 1}
    held.set_result(None)
    assert await live.filled(60)
    assert await board(live) == {"tag0": 3, "tag1": 3, "tag5": 1}


async def test_what_is_deleted_between_reading_and_counting_is_not_counted() -> None:
    posts = table(2)
    held: asyncio.Future[None] = asyncio.Future()
    posts.before_part = lambda: held
    live = LiveTags(posts, lambda: NOW)
    assert not await live.filled(0)
    posts.delete(0)
    assert await board(live) == {}
    held.set_result(None)
    assert await live.filled(60)
    assert await board(live) == {"tag0": 1}


async def test_only_what_is_new_is_read() -> None:
    posts = table()
    live = LiveTags(posts, lambda: NOW)
    assert await live.filled(60)
    reads = posts.reads
    posts.posts.append(Post(8, 9, 5))
    await board(live)
    await board(live)
    assert posts.reads == reads + 1


async def test_another_table_or_an_older_one_is_read_anew() -> None:
    posts = table()
    live = LiveTags(posts, lambda: NOW)
    assert await live.filled(60)
    posts.posts = table(5).posts
    await board(live)
    assert await live.filled(60)
    assert await board(live) == {"tag0": 2, "tag1": 3}
    posts.posts, posts.build = table(9).posts, 2
    await board(live)
    assert await live.filled(60)
    assert await board(live) == {"tag0": 3, "tag1": 3}


async def test_all_that_is_new_is_read_where_more_is_known_than_counts() -> None:
    posts = table(20)
    live = LiveTags(posts, lambda: NOW, uses_max=4)
    assert await live.filled(60)
    assert await board(live) == {"tag0": 2, "tag1": 2}
    # In parts of two: the third one shows that four uses are newer.
    assert posts.reads == 6
    posts.posts += [Post(21 + n, 30 + n, 7) for n in range(7)]
    assert await board(live) == {"tag7": 4}
    assert posts.reads == 6 + 6
    posts.posts += [Post(28, 40, 8), Post(29, 41, 8), Post(30, 42, 8)]
    assert await board(live) == {"tag7": 1, "tag8": 3}
