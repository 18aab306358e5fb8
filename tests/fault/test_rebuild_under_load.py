"""While members write as fast as they are answered, every kind of store is rebuilt and switched: no
page is older than the position it was asked with, none is refused, and all end as an oracle says.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from projections import SOCIAL
from tests.fault.oracle import Square
from tests.fault.system import System, running_system
from tests.fault.test_kills import SEED
from tests.fault.world import Acknowledged, World, check
from tests.searching import comes_to_hold

MEMBERS = 8
WRITERS = 6
READERS = 4
BEGUN_WITH = 120
COMMANDS_AT_ONCE = 30
COMMANDS = 4_000
COMMANDS_LONG = 12_000
COMMANDS_BESIDE = 200
JUST_WRITTEN = 8
LOOKING_AROUND = 0.1
PAGE = 100
SEARCHED = 15
PATIENCE_SECONDS = 90.0

TABLES = ("posts",)
BESIDE = ("home_timelines", "search_posts")
ALL_TABLES = tuple(projection.name for projection in SOCIAL)
ALL_BESIDE = ("home_timelines", "search_posts", "search_members")


@dataclass
class Readers:
    """Members who look for what they have just written, and others who look at anything.

    `missing` are posts that were not shown: somebody has to have deleted them. `asked` counts the
    pages by kind and status.
    """

    world: World
    done: asyncio.Event
    missing: set[str]
    asked: Counter[str] = field(default_factory=Counter)

    async def read(self, number: int) -> None:
        dice = random.Random(f"{self.world.seed}/reader/{number}")
        async with aiohttp.ClientSession() as http:
            while not self.done.is_set():
                # What was written last is what a store that is switched to may lack.
                written = [one for one in self.world.acknowledged[-JUST_WRITTEN:] if one.post_id]
                if written:
                    await self._find(http, dice.choice(written))
                if not written or dice.random() < LOOKING_AROUND:
                    await self._look_around(http, dice)

    async def _find(self, http: aiohttp.ClientSession, post: Acknowledged) -> None:
        """The post, and the list of its author's posts, as of its own position at least."""
        answer = await self._page(http, f"/api/posts/{post.post_id}", post.member, post.position)
        if answer is None:
            self.missing.add(post.post_id)
        path = f"/api/users/{post.member}/posts?limit={PAGE}"
        answer = await self._page(http, path, post.member, post.position)
        assert answer is not None
        shown = [one["postId"] for one in answer["posts"]]
        # Of an author who has written much since, the list begins after it.
        if post.post_id not in shown and len(shown) < PAGE:
            self.missing.add(post.post_id)

    async def _look_around(self, http: aiohttp.ClientSession, dice: random.Random) -> None:
        """Pages that are asked for without a position, which nothing has to be waited for."""
        member = dice.choice(self.world.members).id
        for path in ("/api/feed", f"/api/users/{member}"):
            assert await self._page(http, path, member) is not None
        # A search server that gets no turn beside all this writing is for load to bring about.
        await self._ask(http, "/api/search?type=posts&q=post", member)

    async def _page(
        self, http: aiohttp.ClientSession, path: str, member: str, position: int = 0
    ) -> dict[str, Any] | None:
        """None where there is no such thing. Raises `AssertionError` for anything else but 200."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                status, said = await self._ask(http, path, member, position)
                if status == 200:
                    return dict(json.loads(said))
                if status in (404, 410):
                    return None
                # Tables that are behind say so, and do not show less.
                is_behind = "has not caught up with that Log-Position" in said
                assert status == 503, f"{path}: {status} {said}"
                assert is_behind, f"{path}: {said}"

    async def _ask(
        self, http: aiohttp.ClientSession, path: str, member: str, position: int = 0
    ) -> tuple[int, str]:
        token = next(one.token for one in self.world.members if one.id == member)
        headers = {"Authorization": f"Bearer {token}"}
        if position:
            headers["Log-Position"] = str(position)
        async with http.get(self.world.query_url + path, headers=headers) as answer:
            self.asked[f"{path.split('/')[2].partition('?')[0]} {answer.status}"] += 1
            return answer.status, await answer.text()


async def write(world: World, done: asyncio.Event, commands: int) -> None:
    """As fast as they are answered, until it is `done` or so many were."""
    while not done.is_set() and commands > 0:
        await world.live(COMMANDS_AT_ONCE * WRITERS, WRITERS)
        commands -= COMMANDS_AT_ONCE * WRITERS


async def rebuild(system: System, name: str, *, back: bool) -> None:
    """It has to be switched to by itself; tables are switched `back` again then."""
    printed = await system.plaza("projections", "rebuild", name, "--json", seconds=300)
    assert json.loads(printed)["switched"], printed
    if back:
        await system.plaza("projections", "switch", name, "--back", seconds=300)


async def rebuilt_under_load(
    folder: Path, tables: Sequence[str], beside: Sequence[str], commands: int, *, back: bool
) -> None:
    """`commands` are written at most while one of them is rebuilt; what is beside the tables, and
    is slower to follow than members are to write, has an end of them to wait for."""
    print(f"seed {SEED}")
    async with running_system(folder) as system:
        world = World(system.command_url, system.query_url, SEED)
        await world.register(MEMBERS)
        await world.live(BEGUN_WITH)
        missing: set[str] = set()
        asked: Counter[str] = Counter()
        for name in (*tables, *beside):
            readers = Readers(world, asyncio.Event(), missing)
            is_table = name in tables
            most = commands if is_table else COMMANDS_BESIDE
            async with asyncio.TaskGroup() as group:
                group.create_task(write(world, readers.done, most))
                for number in range(READERS):
                    group.create_task(readers.read(number))
                await rebuild(system, name, back=back and is_table)
                readers.done.set()
            print(f"{name}: {len(world.acknowledged)} commands, pages {dict(readers.asked)}")
            asked.update(readers.asked)
        assert asked["users 200"] > READERS
        events = await system.events()
        await check(world, events)
        square = Square().see(events)
        assert missing <= square.deleted
        await check_search(world, square, events)


async def check_search(world: World, square: Square, events: list[dict[str, Any]]) -> None:
    """The newest posts are found by the number that only they have, and deleted ones are not."""
    written = [event for event in events if event["type"].startswith("post.published")]
    reader = world.members[0]
    seen = [
        (event["data"]["postId"], number_in(event["data"]["content"]))
        for event in written
        if not square.hides(reader.id, event["data"]["authorId"])
    ]
    standing = [one for one in seen if one[0] not in square.deleted][-SEARCHED:]
    gone = [one for one in seen if one[0] in square.deleted][-SEARCHED:]
    async with aiohttp.ClientSession() as http:

        async def is_right(post: str, number: str) -> bool:
            path = f"/api/search?type=posts&q={number}"
            page = await world.query(http, path, reader.token)
            found = [one["postId"] for one in page["results"]]
            return found == ([] if post in square.deleted else [post])

        for post, number in (*standing, *gone):
            await comes_to_hold(lambda post=post, number=number: is_right(post, number))  # type: ignore[misc]


def number_in(content: str) -> str:
    return content.split()[1].partition(".")[2]


@pytest.mark.timeout(300)
async def test_rebuilding_while_everybody_writes_shows_nothing_old(tmp_path: Path) -> None:
    await rebuilt_under_load(tmp_path, TABLES, BESIDE, COMMANDS, back=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_rebuilding_everything_while_everybody_writes_shows_nothing_old(
    tmp_path: Path,
) -> None:
    await rebuilt_under_load(tmp_path, ALL_TABLES * 2, ALL_BESIDE * 2, COMMANDS_LONG, back=True)
