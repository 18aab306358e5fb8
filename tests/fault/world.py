"""Seeded members who do random things at once, and retry every command until it is answered."""

import asyncio
import contextlib
import random
import secrets
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.fault.oracle import Square

PASSWORD = "correct horse battery"
PATIENCE_SECONDS = 90.0
RETRY_SECONDS = 0.2
ANSWER_WAIT_SECONDS = 10.0

ACTIONS = {
    "post": 30,
    "reply": 14,
    "quote": 4,
    "delete": 4,
    "like": 12,
    "unlike": 4,
    "repost": 8,
    "unrepost": 4,
    "follow": 12,
    "unfollow": 4,
    "block": 1,
    "unblock": 1,
    "mute": 1,
    "unmute": 1,
}


@dataclass(frozen=True)
class Member:
    id: str
    username: str
    token: str


@dataclass(frozen=True)
class Acknowledged:
    """A command that was answered with success: what it was, and what the answer promised."""

    action: str
    member: str
    target: str
    position: int
    post_id: str = ""


@dataclass
class World:
    """Drives one running Plaza. `seed` decides what is tried; the interleaving is the machine's."""

    command_url: str
    query_url: str
    seed: int
    members: list[Member] = field(default_factory=list)
    posts: list[tuple[str, str]] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    refused: int = 0
    retried: int = 0
    lives: int = 0

    async def register(self, count: int) -> None:
        async with aiohttp.ClientSession() as http:
            for number in range(count):
                name = f"w{self.seed}_{number}_{secrets.token_hex(3)}"
                body = {"username": name, "password": PASSWORD, "displayName": name.title()}
                await self.command(http, "POST", "/api/users", body)
                _, session = await self.command(
                    http, "POST", "/api/sessions", {"username": name, "password": PASSWORD}
                )
                self.members.append(Member(session["userId"], name, session["token"]))

    async def live(self, commands: int, writers: int = 8) -> None:
        """Have `writers` members' worth of commands in flight until `commands` were answered."""
        self.lives += 1
        share = -(-commands // writers)
        connector = aiohttp.TCPConnector(limit=0, force_close=False)
        async with aiohttp.ClientSession(connector=connector) as http:
            await asyncio.gather(*(self._write(http, n, share) for n in range(writers)))

    async def _write(self, http: aiohttp.ClientSession, number: int, share: int) -> None:
        dice = random.Random(f"{self.seed}/{self.lives}/{number}")
        for _ in range(share):
            await self._act(http, dice)

    async def _act(self, http: aiohttp.ClientSession, dice: random.Random) -> None:
        action = dice.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        member = dice.choice(self.members)
        other = dice.choice([m for m in self.members if m is not member])
        recent = self.posts[-60:] or [("", "")]
        post_id, _ = dice.choice(recent)
        if not post_id and action not in ("post", "follow"):
            action = "post"
        if action == "delete":
            post_id = next((p for p, author in reversed(recent) if author == member.id), post_id)
        method, path, body, target = request_for(action, post_id, other.id, dice)
        status, answer = await self.command(http, method, path, body, member.token)
        if status >= 400:
            self.refused += 1
            return
        position = int(answer.get("_position") or 0)
        made = answer.get("postId", "")
        if made:
            self.posts.append((made, member.id))
        self.acknowledged.append(Acknowledged(action, member.id, target, position, made))

    async def command(
        self,
        http: aiohttp.ClientSession,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        token: str = "",
    ) -> tuple[int, dict[str, Any]]:
        """Send a command until it is answered with success or a refusal of its own.

        One idempotency key serves all tries. Raises `TimeoutError` when patience ends.
        """
        headers = {"Idempotency-Key": secrets.token_hex(12)}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        wait = aiohttp.ClientTimeout(total=ANSWER_WAIT_SECONDS)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                    async with http.request(
                        method, self.command_url + path, json=body, headers=headers, timeout=wait
                    ) as answer:
                        raw = await answer.read()
                        if final(answer.status, raw):
                            found = await answer.json(content_type=None) if raw else {}
                            position = answer.headers.get("Log-Position")
                            return answer.status, {**found, "_position": position}
                self.retried += 1
                await asyncio.sleep(RETRY_SECONDS)

    async def feed(
        self, http: aiohttp.ClientSession, member: Member, position: int, mode: str = "latest"
    ) -> tuple[list[str], bool]:
        """All pages of a member's feed: the post ids, and whether any page was degraded."""
        ids: list[str] = []
        degraded = False
        cursor = ""
        while True:
            page = await self.query(
                http,
                f"/api/feed?mode={mode}&limit=100" + (f"&cursor={cursor}" if cursor else ""),
                member.token,
                position,
            )
            ids += [post["postId"] for post in page["posts"]]
            degraded |= bool(page.get("degraded"))
            cursor = page["nextCursor"]
            if not page["hasMore"]:
                return ids, degraded

    async def query(
        self, http: aiohttp.ClientSession, path: str, token: str = "", position: int = 0
    ) -> dict[str, Any]:
        """A query's answer, asked again while the service is not there or not caught up."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if position:
            headers["Log-Position"] = str(position)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                    async with http.get(self.query_url + path, headers=headers) as answer:
                        if answer.status == 200:
                            return dict(await answer.json())
                        if answer.status < 500:
                            text = await answer.text()
                            raise AssertionError(f"{path}: {answer.status} {text}")
                await asyncio.sleep(RETRY_SECONDS)


def final(status: int, raw: bytes) -> bool:
    """Whether this answer ends the tries: a success, or a refusal that is about the command."""
    if status == 409:
        return b"request-in-flight" not in raw
    return status < 500 and status != 429


def request_for(
    action: str, post_id: str, other_id: str, dice: random.Random
) -> tuple[str, str, dict[str, Any] | None, str]:
    """Method, path, body and target of a random command."""
    words = f"{action} {dice.random():.12f} #tag{dice.randrange(9)}"
    undoing = action.startswith("un")
    verb = action.removeprefix("un")
    about = {"reply": {"replyTo": post_id}, "quote": {"quoteOf": post_id}, "post": {}}
    if action in about:
        return "POST", "/api/posts", {"content": words, **about[action]}, words
    if action == "delete":
        return "DELETE", f"/api/posts/{post_id}", None, post_id
    kind, target = ("posts", post_id) if verb in ("like", "repost") else ("users", other_id)
    return "DELETE" if undoing else "POST", f"/api/{kind}/{target}/{verb}", None, target


async def check(world: World, events: list[dict[str, Any]]) -> None:
    """Every acknowledged command is in the log once, and every page equals the oracle's."""
    check_log(world, events)
    square = Square().see(events)
    head = events[-1]["position"]
    async with aiohttp.ClientSession() as http:
        for member in world.members:
            shown, _ = await world.feed(http, member, head)
            assert shown == square.timeline(member.id), f"seed {world.seed}: {member}"
            profile = await world.query(http, f"/api/users/{member.id}", member.token, head)
            expected = square.profile_counts(member.id)
            assert {name: profile[name] for name in expected} == expected, f"seed {world.seed}"
        reader = world.members[0]
        standing = [p for p, author in world.posts if p not in square.deleted]
        for post in standing[-40:]:
            if square.hides(reader.id, square.author[post]):
                continue
            item = await world.query(http, f"/api/posts/{post}", reader.token, head)
            expected = square.counts(post)
            assert {name: item[name] for name in expected} == expected, f"seed {world.seed}: {post}"


def check_log(world: World, events: list[dict[str, Any]]) -> None:
    """The log holds what was acknowledged, exactly once, and nothing twice or half."""
    places = [(event["stream"], event["version"]) for event in events]
    assert len(places) == len(set(places))
    positions = [event["position"] for event in events]
    assert positions == sorted(set(positions))
    by_position = {event["position"]: event for event in events}
    published = [e["data"]["postId"] for e in events if e["type"].startswith("post.published")]
    contents = [e["data"]["content"] for e in events if e["type"].startswith("post.published")]
    assert len(published) == len(set(published))
    assert len(contents) == len(set(contents)), "a command was carried out twice"
    for done in world.acknowledged:
        if done.position == 0 and done.action.startswith("un"):
            continue  # It undid what had never been done, in a stream without events.
        assert done.position in by_position, f"acknowledged and lost: {done}"
        if done.post_id:
            assert by_position[done.position]["data"]["postId"] == done.post_id
