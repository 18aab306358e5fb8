"""The query service over real read tables: what members see, page by page."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from domain.shared.personal import Personal
from infra.servers.postgres import start_postgres
from tests.asking import Asking
from tests.square import Square


@pytest.fixture
async def asking(square: Square) -> AsyncIterator[Asking]:
    async with Asking.open(square) as opened:
        yield opened


async def test_a_follower_sees_what_was_posted(square: Square, asking: Asking) -> None:
    ann, bob = await square.member("ann"), await square.member("bob")
    await square.follow(bob, ann)
    post = await square.post(
        ann, "good morning", media_urls=Personal(("https://example.org/a.png",))
    )
    await square.apply()
    page = await asking.get("/api/feed", bob)
    assert page == {
        "posts": [
            {
                "postId": post,
                "author": {
                    "id": ann, "username": "ann", "displayName": "Ann", "avatarUrl": None,
                },
                "content": "good morning",
                "mediaUrls": ["https://example.org/a.png"],
                "products": [],
                "createdAt": page["posts"][0]["createdAt"],
                "likeCount": 0,
                "repostCount": 0,
                "replyCount": 0,
                "liked": False,
                "reposted": False,
                "kind": "post",
            }
        ],
        "nextCursor": None,
        "hasMore": False,
    }  # fmt: skip


async def test_likes_and_counts_show_at_once(square: Square, asking: Asking) -> None:
    ann, bob = await square.member("ann"), await square.member("bob")
    post = await square.post(ann)
    await square.apply()
    assert (await asking.get(f"/api/posts/{post}", bob))["liked"] is False
    await square.like(bob, post)
    reply = await square.reply(bob, post)
    await square.repost(bob, post)
    await square.apply()
    shown = await asking.get(f"/api/posts/{post}", bob)
    assert (shown["liked"], shown["reposted"]) == (True, True)
    assert (shown["likeCount"], shown["repostCount"], shown["replyCount"]) == (1, 1, 1)
    assert (await asking.get(f"/api/posts/{reply}"))["replyTo"] == post
    await square.unlike(bob, post)
    await square.apply()
    shown = await asking.get(f"/api/posts/{post}", bob)
    assert (shown["liked"], shown["likeCount"]) == (False, 0)


async def test_a_deleted_post_is_gone_but_not_from_the_past(square: Square, asking: Asking) -> None:
    ann, bob = await square.member("ann"), await square.member("bob")
    await square.follow(bob, ann)
    post = await square.post(ann, "I take this back")
    await square.apply()
    assert await asking.feed(bob) == [post]
    before = square.applied
    await square.delete(post)
    await square.apply()
    assert await asking.feed(bob) == []
    answer = await asking.raw(f"/api/posts/{post}", bob, square.applied)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert (await asking.get(f"/api/posts/{post}", bob, asOf=before))["content"]
    assert await asking.feed(bob, asOf=before) == [post]
    assert await asking.feed(bob, asOf=square.applied) == []
    moment = square.history[-2].recorded_at.isoformat()
    assert await asking.feed(bob, asOf=moment) == [post]


async def test_an_erased_member_is_gone_from_the_past_too(square: Square, asking: Asking) -> None:
    ann, bob = await square.member("ann"), await square.member("bob")
    await square.follow(bob, ann)
    post = await square.post(ann, "secret")
    await square.apply()
    before = square.applied
    assert (await asking.get("/api/users/@ann"))["id"] == ann
    await square.erase(ann)
    await square.apply()
    for path in (f"/api/users/{ann}", "/api/users/@ann", f"/api/posts/{post}"):
        for parameters in ({}, {"asOf": before}):
            answer = await asking.raw(path, bob, square.applied, **parameters)
            assert answer.status_code == 404, (path, parameters, answer.text)
    assert await asking.feed(bob) == []
    assert await asking.feed(bob, asOf=before) == []


async def test_blocks_hide_both_from_each_other(square: Square, asking: Asking) -> None:
    ann, bob, cat = [await square.member(name) for name in ("ann", "bob", "cat")]
    await square.follow(cat, ann)
    await square.follow(cat, bob)
    post = await square.post(ann)
    await square.apply()
    await square.hide(ann, bob, "block")
    await square.apply()
    for viewer, other in ((ann, bob), (bob, ann)):
        answer = await asking.raw(f"/api/users/{other}", viewer, square.applied)
        assert answer.status_code == 404
        for name in ("posts", "followers", "following"):
            answer = await asking.raw(f"/api/users/{other}/{name}", viewer)
            assert answer.status_code == 404
    assert (await asking.raw(f"/api/posts/{post}", bob)).status_code == 404
    assert (await asking.raw(f"/api/posts/{post}/replies", bob)).status_code == 404
    seen = await asking.get(f"/api/users/{cat}/following", bob)
    assert [user["username"] for user in seen["users"]] == ["bob"]
    seen = await asking.get(f"/api/users/{cat}/following", cat)
    assert [user["username"] for user in seen["users"]] == ["bob", "ann"]
    await square.unhide(ann, bob, "block")
    await square.apply()
    assert (await asking.get(f"/api/posts/{post}", bob))["postId"] == post


async def test_muting_hides_from_the_feed_alone(square: Square, asking: Asking) -> None:
    ann, bob = await square.member("ann"), await square.member("bob")
    await square.follow(bob, ann)
    post = await square.post(ann)
    await square.hide(bob, ann, "mute")
    await square.apply()
    assert await asking.feed(bob) == []
    assert (await asking.get(f"/api/posts/{post}", bob))["postId"] == post
    assert (await asking.get(f"/api/users/{ann}", bob))["username"] == "ann"


async def test_a_repost_is_shown_as_the_original(square: Square, asking: Asking) -> None:
    ann, bob, cat = [await square.member(name) for name in ("ann", "bob", "cat")]
    await square.follow(cat, bob)
    post = await square.post(ann, "original")
    await square.repost(bob, post)
    await square.apply()
    (item,) = (await asking.get("/api/feed", cat))["posts"]
    assert (item["postId"], item["author"]["id"], item["kind"]) == (post, ann, "repost")
    assert [author["id"] for author in item["repostedBy"]] == [bob]
    await square.unrepost(bob, post)
    await square.apply()
    assert await asking.feed(cat) == []


async def test_profiles_count_and_say_whether_the_reader_follows(
    square: Square, asking: Asking
) -> None:
    ann, bob = await square.member("ann"), await square.member("bob")
    await square.follow(bob, ann)
    post = await square.post(ann)
    await square.reply(ann, post)
    await square.apply()
    expected = {
        "id": ann, "username": "ann", "displayName": "Ann", "bio": "I am ann", "avatarUrl": None,
        "isVerified": False, "followerCount": 1, "followingCount": 0, "postCount": 2,
    }  # fmt: skip
    assert await asking.get(f"/api/users/{ann}") == expected
    assert await asking.get("/api/users/@ann", bob) == expected | {"following": True}
    assert await asking.get(f"/api/users/{ann}", ann) == expected | {"following": False}
    before = square.applied
    await square.unfollow(bob, ann)
    await square.rename(ann, "Anna")
    await square.apply()
    now = await asking.get(f"/api/users/{ann}", bob)
    assert (now["displayName"], now["followerCount"], now["following"]) == ("Anna", 0, False)
    then = await asking.get(f"/api/users/{ann}", bob, asOf=before)
    assert then == expected | {"following": True}


async def test_a_new_name_shows_on_posts_seen_before(square: Square, asking: Asking) -> None:
    ann = await square.member("ann")
    post = await square.post(ann)
    await square.apply()
    assert (await asking.get(f"/api/posts/{post}"))["author"]["displayName"] == "Ann"
    await square.rename(ann, "Anna")
    await square.apply()
    assert (await asking.get(f"/api/posts/{post}"))["author"]["displayName"] == "Anna"


async def test_a_thread_is_in_causal_order_whole_or_from_a_branch(
    square: Square, asking: Asking
) -> None:
    ann, bob = await square.member("ann"), await square.member("bob")
    root = await square.post(ann, "root")
    first = await square.reply(bob, root)
    second = await square.reply(ann, root)
    below_first = await square.reply(ann, first)
    below_second = await square.reply(bob, second)
    deepest = await square.reply(bob, below_first)
    await square.delete(second)
    await square.apply()

    async def thread(post: str) -> list[str]:
        ids: list[str] = []
        parameters: dict[str, Any] = {"limit": 2}
        while True:
            page = await asking.get(f"/api/posts/{post}/replies", **parameters)
            ids += [item["postId"] for item in page["posts"]]
            if not page["hasMore"]:
                return ids
            parameters["cursor"] = page["nextCursor"]

    assert await thread(root) == [first, below_first, below_second, deepest]
    assert await thread(first) == [below_first, deepest]
    assert await thread(deepest) == []


async def test_walking_followers_shows_each_once_whatever_changes(
    square: Square, asking: Asking
) -> None:
    star = await square.member("star")
    fans = [await square.member(f"fan{number}") for number in range(7)]
    for fan in fans:
        await square.follow(fan, star)
    await square.apply()
    page = await asking.get(f"/api/users/{star}/followers", limit=3)
    assert [user["id"] for user in page["users"]] == [fans[6], fans[5], fans[4]]
    await square.unfollow(fans[3], star)
    await square.unfollow(fans[2], star)
    await square.follow(fans[2], star)
    await square.follow(await square.member("late"), star)
    await square.apply()
    page = await asking.get(f"/api/users/{star}/followers", limit=3, cursor=page["nextCursor"])
    assert [user["id"] for user in page["users"]] == [fans[2], fans[1], fans[0]]
    assert (page["hasMore"], page["nextCursor"]) == (False, None)


async def test_an_ended_session_is_refused(square: Square, asking: Asking) -> None:
    ann = await square.member("ann")
    await square.apply()
    assert await asking.feed(ann) == []
    await square.end_session(asking.sessions[ann])
    await square.apply()
    answer = await asking.raw("/api/feed", ann, square.applied)
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")


async def test_a_query_waits_for_its_log_position(square: Square, asking: Asking) -> None:
    ann = await square.member("ann")
    await square.apply()
    await square.post(ann)
    late = await asking.raw("/api/feed", ann, await square.log.head())
    assert late.status_code == 503
    assert late.headers["Retry-After"] == "1"


async def test_explain_names_the_way_in_and_what_keeps_a_post_out(
    square: Square, asking: Asking
) -> None:
    ann, bob, cat = [await square.member(name) for name in ("ann", "bob", "cat")]
    followed = await square.follow(bob, ann)
    first = await square.post(ann)
    second = await square.post(ann)
    reply = await square.reply(ann, await square.post(cat))
    repost = await square.repost(ann, reply)
    await square.apply()

    async def explain(post: str) -> tuple[dict[str, Any], list[str]]:
        found = await asking.get(f"/api/feed/explain/{post}", bob)
        return found, [rule["name"] for rule in found["filters"] if rule["applies"]]

    found, keeping = await explain(first)
    assert (found["inFeed"], found["place"], keeping) == (True, 3, [])
    assert found["sources"] == [
        {
            "kind": "follow", "accountId": ann, "since": followed,
            "entry": square.posts[first][1], "amongNewest": True, "takenBack": False,
            "hidden": False,
        }
    ]  # fmt: skip
    found, keeping = await explain(reply)
    assert [source["kind"] for source in found["sources"]] == ["repost"]
    assert (found["place"], found["sources"][0]["entry"]) == (1, repost)
    await square.unrepost(ann, reply)
    await square.delete(second)
    await square.apply()
    assert (await explain(reply))[1] == ["taken_back"]
    assert (await explain(second))[1] == ["deleted"]
    await square.hide(bob, ann, "mute")
    await square.unfollow(bob, ann)
    await square.apply()
    assert (await explain(first))[1] == ["muted", "not_followed"]
    unknown = await asking.raw("/api/feed/explain/0000000000000", bob)
    assert unknown.status_code == 404


async def test_a_database_that_dies_is_a_503_until_it_is_back() -> None:
    # Not under pytest's folder, which PostgreSQL's own user may not enter.
    with tempfile.TemporaryDirectory() as folder:
        server, url = start_postgres(Path(folder))
        square = await Square.open(url)
        ann = await square.member("ann")
        post = await square.post(ann)
        await square.apply()
        try:
            async with Asking.open(square) as asking:
                await asking.get(f"/api/posts/{post}", ann)
                # Projections do not wait for the disk: give it the moment that it takes.
                await asyncio.sleep(1)
                server.kill()
                for path in (f"/api/posts/{post}", "/api/feed", f"/api/users/{ann}"):
                    answer = await asking.raw(path, ann)
                    if answer.status_code == 200:
                        # What it keeps is shown for the moment until the loss is noticed.
                        await asyncio.sleep(1)
                        answer = await asking.raw(path, ann)
                    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
                answer = await asking.http.get("/health/ready")
                assert answer.status_code == 503
                server, _ = start_postgres(Path(folder), urlsplit(url).port)
                async with asyncio.timeout(20):
                    while (await asking.http.get("/health/ready")).status_code != 200:  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
                assert (await asking.raw(f"/api/posts/{post}", ann)).status_code == 200
                assert await asking.feed(ann) == [post]
        finally:
            await square.close()
            server.stop()
