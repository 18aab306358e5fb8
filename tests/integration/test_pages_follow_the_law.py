"""Pages against an independent model of the timelines law, over random histories."""

import random
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.runtime.event_documents import document
from infra.servers.valkey import start_valkey
from tests.asking import Asking
from tests.fault.oracle import Square as Oracle
from tests.square import Square, pushing

MEMBERS = 7


@dataclass
class Chance:
    """Random members doing random things that the rules allow."""

    square: Square
    dice: random.Random
    members: list[str] = field(default_factory=list)
    standing: list[str] = field(default_factory=list)
    follows: set[tuple[str, str]] = field(default_factory=set)
    hides: set[tuple[str, str, str]] = field(default_factory=set)
    likes: set[tuple[str, str]] = field(default_factory=set)
    reposts: set[tuple[str, str]] = field(default_factory=set)

    async def gather(self) -> None:
        self.members = [await self.square.member(f"m{number}") for number in range(MEMBERS)]

    async def act(self) -> None:
        actions = {
            self.post: 8, self.reply: 5, self.delete: 2, self.repost: 7, self.follow: 6,
            self.hide: 1.5, self.like: 3,
        }  # fmt: skip
        await self.dice.choices(list(actions), list(actions.values()))[0]()

    async def post(self) -> None:
        self.standing.append(await self.square.post(self.dice.choice(self.members)))

    async def reply(self) -> None:
        if self.standing:
            parent = self.dice.choice(self.standing[-8:])
            author = self.square.posts[parent][0].author_id
            someone = self.dice.choice([*self.members, author, author])
            self.standing.append(await self.square.reply(someone, parent))

    async def delete(self) -> None:
        if self.standing:
            post = self.dice.choice(self.standing)
            self.standing.remove(post)
            await self.square.delete(post)

    async def repost(self) -> None:
        if self.standing:
            pair = self.dice.choice(self.members), self.dice.choice(self.standing)
            undo = pair in self.reposts
            await (self.square.unrepost if undo else self.square.repost)(*pair)
            self.reposts ^= {pair}

    async def like(self) -> None:
        if self.standing:
            pair = self.dice.choice(self.members), self.dice.choice(self.standing)
            undo = pair in self.likes
            await (self.square.unlike if undo else self.square.like)(*pair)
            self.likes ^= {pair}

    async def follow(self) -> None:
        one, other = self.dice.sample(self.members, 2)
        pair = one, other
        if pair in self.follows and self.dice.random() < 0.4:
            await self.square.unfollow(*pair)
            self.follows.discard(pair)
        elif pair not in self.follows:
            await self.square.follow(*pair)
            self.follows.add(pair)

    async def hide(self) -> None:
        one, other = self.dice.sample(self.members, 2)
        hide = one, other, self.dice.choice(["block", "mute"])
        undo = hide in self.hides
        await (self.square.unhide if undo else self.square.hide)(*hide)
        self.hides ^= {hide}


def oracle(square: Square, until: int) -> Oracle:
    events = [document(e, square.keyring) for e in square.history if e.position <= until]
    return Oracle().see(events)


async def walk_while_things_happen(asking: Asking, chance: Chance, member: str) -> None:
    """No item twice; none skipped that was there at the first page and could be seen all along."""
    dice, square = chance.dice, asking.square
    mode = dice.choice(["latest", "ranked"])
    shown: list[str] = []
    first = ever = None
    cursor: dict[str, str] = {}
    while True:
        limit = dice.randint(1, 9)
        page = await asking.get("/api/feed", member, limit=limit, mode=mode, **cursor)
        shown += [post["postId"] for post in page["posts"]]
        now = set(oracle(square, square.applied).timeline(member))
        first = now if first is None else first
        ever = now if ever is None else ever & now
        assert not page.get("degraded")
        if not page["hasMore"]:
            assert page["nextCursor"] is None
            break
        assert len(page["posts"]) == limit
        cursor = {"cursor": page["nextCursor"]}
        for _ in range(dice.randint(0, 6)):
            await chance.act()
        await square.apply()
    assert len(shown) == len(set(shown)), "an item came twice"
    missing = [post for post in ever or () if post in (first or ()) and post not in shown]
    assert not missing, "an item was skipped"


@pytest.mark.parametrize("seed", range(2))
async def test_pulled_pages_are_what_the_model_says(square: Square, seed: int) -> None:
    chance = Chance(square, random.Random(seed))
    await chance.gather()
    async with Asking.open(square) as asking:
        await live(asking, chance, f"seed {seed}")


@pytest.mark.parametrize("seed", range(2, 5))
async def test_pushed_pages_are_what_the_model_says(
    square: Square, redis_url: str, seed: int
) -> None:
    """With so low a threshold that accounts keep crossing it, both ways."""
    chance = Chance(square, random.Random(seed))
    await chance.gather()
    await square.apply()
    async with (
        pushing(square, redis_url, celebrities_from=4),
        Asking.open(square, redis_url) as asking,
    ):
        await live(asking, chance, f"seed {seed}")
        metrics = (await asking.http.get("/metrics")).text
    assert pages(metrics, "pushed") > 50
    assert pages(metrics, "degraded") == 0


def pages(metrics: str, source: str) -> float:
    (line,) = re.findall(rf'plaza_feed_pages_total{{source="{source}"}} (.*)', metrics)
    return float(line)


async def live(asking: Asking, chance: Chance, note: str) -> None:
    for _ in range(20):
        for _ in range(12):
            await chance.act()
        await chance.square.apply()
        await compare(asking, chance, note)


async def compare(asking: Asking, chance: Chance, note: str) -> None:
    dice, square = chance.dice, asking.square
    model = oracle(square, square.applied)
    member = dice.choice(chance.members)
    assert await asking.feed(member, limit=dice.randint(1, 40)) == model.timeline(member), note
    past = dice.choice(square.history[MEMBERS:]).position
    then = oracle(square, past).timeline(member)
    assert await asking.feed(member, limit=dice.randint(1, 20), asOf=past) == then, note
    profile = await asking.get(f"/api/users/{member}", asOf=past)
    expected = oracle(square, past).profile_counts(member)
    assert {name: profile[name] for name in expected} == expected, note
    profile = await asking.get(f"/api/users/{member}")
    expected = model.profile_counts(member)
    assert {name: profile[name] for name in expected} == expected, note
    for post in dice.sample(chance.standing, min(3, len(chance.standing))):
        item = await asking.get(f"/api/posts/{post}")
        assert {name: item[name] for name in model.counts(post)} == model.counts(post), note
    await walk_while_things_happen(asking, chance, member)


async def write(square: Square, author: str, count: int) -> list[str]:
    posts = [square.published(author, f"{number}") for number in range(count)]
    positions = await square.record_all([(f"post:{post.post_id}", post) for post in posts])
    square.posts |= {post.post_id: (post, at) for post, at in zip(posts, positions, strict=True)}
    return [post.post_id for post in posts]


@pytest.mark.parametrize("pushed", [False, True])
async def test_only_the_newest_800_count_and_20_from_before_a_follow(
    square: Square, redis_url: str, *, pushed: bool
) -> None:
    ann, bob, cat = [await square.member(name) for name in ("ann", "bob", "cat")]
    await write(square, ann, 300)
    await square.follow(cat, ann)
    await write(square, ann, 30)
    await write(square, bob, 900)
    await square.apply()
    before = square.applied
    async with AsyncExitStack() as stack:
        if pushed:
            await stack.enter_async_context(pushing(square, redis_url, celebrities_from=1000))
        asking = await stack.enter_async_context(Asking.open(square, redis_url if pushed else ""))
        assert len(await asking.feed(cat, limit=100)) == 50
        await square.follow(cat, bob)
        await write(square, cat, 400)
        await write(square, bob, 390)
        await square.apply()
        found = await asking.feed(cat, limit=100)
        assert found == oracle(square, square.applied).timeline(cat)
        assert len(found) == 800

        # A walk goes on as of its first page, whatever comes meanwhile.
        page = await asking.get("/api/feed", cat, limit=100)
        walked = [post["postId"] for post in page["posts"]]
        while page["hasMore"]:
            await write(square, ann, 60)
            await square.apply()
            page = await asking.get("/api/feed", cat, limit=100, cursor=page["nextCursor"])
            walked += [post["postId"] for post in page["posts"]]
        assert walked == found

        found = await asking.feed(cat, limit=100)
        for post in (found[0], found[400], found[-1]):
            await square.delete(post)
        await square.apply()
        # What is deleted still counts: nothing older comes in its place.
        found = await asking.feed(cat, limit=100)
        assert found == oracle(square, square.applied).timeline(cat)
        assert len(found) == 797
        then = await asking.feed(cat, limit=100, asOf=before)
        assert then == oracle(square, before).timeline(cat)


async def test_without_redis_pages_are_the_same_and_say_so(square: Square, tmp_path: Path) -> None:
    ann, bob = await square.member("ann"), await square.member("bob")
    await square.follow(bob, ann)
    posts = [await square.post(ann, f"{number}") for number in range(30)]
    await square.apply()
    server, url = start_valkey(tmp_path)
    try:
        async with pushing(square, url, 1000), Asking.open(square, url) as asking:
            for _ in range(2):
                page = await asking.get("/api/feed", bob)
                assert "degraded" not in page
            server.kill()
            degraded = await asking.get("/api/feed", bob)
            assert degraded == page | {
                "degraded": True, "nextCursor": degraded["nextCursor"],
            }  # fmt: skip
            rest = await asking.get("/api/feed", bob, cursor=page["nextCursor"])
            assert rest["degraded"] is True
            shown = [post["postId"] for post in page["posts"] + rest["posts"]]
            assert shown == posts[::-1]
    finally:
        server.stop()
