"""What a client of the query service may rely on, whatever it sends."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import jsonschema  # type: ignore[import-untyped]
import pytest

from infra.http.openapi import undescribed
from tests.asking import Asking
from tests.square import Square

LISTS = (
    "/api/feed",
    "/api/users/{ann}/posts",
    "/api/users/{ann}/followers",
    "/api/users/{ann}/following",
    "/api/posts/{post}/replies",
)
TRAVELLING = ("/api/feed", "/api/posts/{post}", "/api/users/{ann}")
PAGES = (*LISTS, "/api/posts/{post}", "/api/users/{ann}", "/api/users/@ann")


class Client:
    """Ann, whom Bob follows, has posted three times; Bob has answered the first thrice."""

    def __init__(self, asking: Asking, names: dict[str, str]) -> None:
        self.asking = asking
        self.names = names

    async def get(self, path: str, member: str = "bob", **headers: str) -> Any:
        token = self.asking.token(self.names[member]) if member else ""
        given = {"Authorization": f"Bearer {token}"} if member else {}
        return await self.asking.http.get(path.format(**self.names), headers=given | headers)


@pytest.fixture
async def client(square: Square) -> AsyncIterator[Client]:
    ann, bob = await square.member("ann"), await square.member("bob")
    fans = [await square.member(f"fan{number}") for number in range(2)]
    for follower in (bob, *fans):
        await square.follow(follower, ann)
    posts = [await square.post(ann, f"{number}") for number in range(3)]
    for _ in range(3):
        await square.reply(bob, posts[0])
    for followee in (bob, *fans):
        await square.follow(ann, followee)
    await square.apply()
    async with Asking.open(square) as asking:
        await asking.get("/api/feed", bob)
        yield Client(asking, {"ann": ann, "bob": bob, "post": posts[0], "fan": fans[0]})


def at_fault(answer: Any) -> list[str]:
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return [
        error.get("parameter") or error.get("header") or error["pointer"]
        for error in answer.json()["errors"]
    ]


BAD_LIMITS = ["0", "101", "-1", "1.5", "1e1", "ten", "", "٣", "99999999999999999999", "%00", "+5"]


@pytest.mark.parametrize("path", LISTS)
async def test_limits_outside_of_1_to_100_are_refused(client: Client, path: str) -> None:
    for limit in BAD_LIMITS:
        answer = await client.get(f"{path}?limit={quote(limit, safe='%+')}")
        assert at_fault(answer) == ["limit"], limit
    for limit in ("1", "100"):
        assert (await client.get(f"{path}?limit={limit}")).status_code == 200


@pytest.mark.parametrize("path", LISTS)
async def test_only_cursors_that_this_list_handed_out_are_taken(client: Client, path: str) -> None:
    page = (await client.get(f"{path}?limit=1")).json()
    cursor = page["nextCursor"]
    assert page["hasMore"] is True
    flipped = cursor[:-3] + ("A" if cursor[-3] != "A" else "B") + cursor[-2:]
    bad = ["", "x", "%00", "é", flipped, cursor + "A", cursor + "=", cursor[:-1], "A" * 10_000]
    others = [await client.get(f"{other}?limit=1") for other in LISTS if other != path]
    bad += [other.json()["nextCursor"] for other in others]
    for text in bad:
        answer = await client.get(f"{path}?cursor={quote(text, safe='%')}")
        assert at_fault(answer) == ["cursor"], text
    # Another reader's page would show other things, so their cursor is another one too.
    assert at_fault(await client.get(f"{path}?cursor={cursor}", "fan")) == ["cursor"]
    assert (await client.get(f"{path}?cursor={cursor}")).status_code == 200


@pytest.mark.parametrize("path", LISTS)
async def test_the_last_page_says_that_it_is_the_last(client: Client, path: str) -> None:
    name = "users" if path.endswith(("followers", "following")) else "posts"
    cursor = ""
    for expected in (True, True, False):
        page = (await client.get(f"{path}?limit=1{cursor}")).json()
        assert len(page[name]) == 1
        assert (page["hasMore"], page["nextCursor"] is not None) == (expected, expected)
        cursor = f"&cursor={page['nextCursor']}"


BAD_MOMENTS = [
    "", "now", "-1", "1.5", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z",
    "2999-01-01T00:00:00Z", "99999999999", "9" * 40, "%00", "٣", "0001-01-01T00:00:00+23:59",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVELLING)
async def test_moments_that_are_none_or_to_come_are_refused(client: Client, path: str) -> None:
    for moment in BAD_MOMENTS:
        answer = await client.get(f"{path}?asOf={quote(moment, safe='%')}")
        assert at_fault(answer) == ["asOf"], moment


async def test_an_offset_may_be_written_with_a_bare_plus(client: Client) -> None:
    answer = await client.get("/api/feed?asOf=2020-01-01T00:00:00+01:00")
    assert (answer.status_code, answer.json()["posts"]) == (200, [])


@pytest.mark.parametrize("path", PAGES)
async def test_a_bad_log_position_is_refused(client: Client, path: str) -> None:
    for value in ("", "x", "-1", "1.5", "9" * 30):
        answer = await client.get(path, **{"Log-Position": value})
        assert at_fault(answer) == ["Log-Position"], value


async def test_the_feed_needs_a_session_and_all_pages_refuse_a_bad_one(client: Client) -> None:
    assert (await client.get("/api/feed", "")).status_code == 401
    assert (await client.get("/api/feed/explain/{post}", "")).status_code == 401
    for path in PAGES:
        answer = await client.get(path, "", Authorization="Bearer nonsense")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        if path != "/api/feed":
            assert (await client.get(path, "")).status_code == 200


UNKNOWN = [
    "/api/posts/0000000000000", "/api/posts/nonsense", "/api/posts/%00", "/api/posts/💥",
    "/api/posts/0000000000000/replies", "/api/users/0000000000000", "/api/users/@nobody",
    "/api/users/@", "/api/users/@%00", "/api/users/@💥", "/api/users/vvvvvvvvvvvvv",
    "/api/users/0000000000000/posts", "/api/users/@nobody/followers", "/api/nothing",
    "/api/feed/explain/nonsense",
]  # fmt: skip


@pytest.mark.parametrize("path", UNKNOWN)
async def test_what_is_not_there_is_a_404_problem(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_every_endpoint_is_described_and_answers_as_described(client: Client) -> None:
    app = client.asking.service.app
    assert undescribed(app.routes) == []
    contract = (await client.get("/openapi.json", "")).json()
    for path, name in (
        ("/api/feed", "/api/feed"),
        ("/api/posts/{post}", "/api/posts/{postId}"),
        ("/api/posts/{post}/replies", "/api/posts/{postId}/replies"),
        ("/api/users/@ann", "/api/users/{userId}"),
        ("/api/users/{ann}/followers", "/api/users/{userId}/followers"),
        ("/api/feed/explain/{post}", "/api/feed/explain/{postId}"),
    ):
        answered = contract["paths"][name]["get"]["responses"]["200"]["content"]
        schema = answered["application/json"]["schema"] | {"components": contract["components"]}
        jsonschema.validate((await client.get(path)).json(), schema)
