"""Whom to follow, and what newcomers are shown, against a plain count over the history."""

import random
from collections import Counter
from typing import Any

from tests.asking import Asking, discovering
from tests.square import Square

MEMBERS = 40


async def pages(asked: Asking, path: str, name: str, member: str, **more: Any) -> list[Any]:
    found: list[Any] = []
    while True:
        page = await asked.get(path, member, **more)
        found += page[name]
        assert page["hasMore"] == (page["nextCursor"] is not None)
        if not page["hasMore"]:
            return found
        more["cursor"] = page["nextCursor"]


async def test_suggestions_are_whom_ones_follows_follow(square: Square) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    people = [await square.member(f"m{number}") for number in range(MEMBERS)]
    follows: dict[str, list[str]] = {one: [] for one in people}
    hides: dict[str, set[str]] = {one: set() for one in people}
    for one in people:
        for other in dice.sample(people, dice.randrange(8)):
            if other != one:
                await square.follow(one, other)
                follows[one].append(other)
        for other in dice.sample(people, dice.randrange(3)):
            if other == one or other in follows[one]:
                continue
            kind = dice.choice(["block", "mute"])
            await square.hide(one, other, kind)
            hides[one].add(other)
            if kind == "block":
                hides[other].add(one)
    erased = dice.choice(people)
    await square.erase(erased)
    followers = Counter(other for others in follows.values() for other in others)
    async with discovering(square) as asked:
        for one in people:
            if one == erased:
                continue
            mutual = Counter(
                far
                for near in follows[one]
                for far in follows[near]
                if far != one and far not in follows[one] and far not in hides[one]
            )
            mutual.pop(erased, None)
            listed = await pages(asked, "/api/suggestions", "users", one, limit=3)
            if mutual:
                assert {user["id"]: user["mutualCount"] for user in listed} == mutual
                keys = [(-user["mutualCount"], -user["followerCount"]) for user in listed]
                assert keys == sorted(keys)
            else:
                popular = {
                    other
                    for other in followers
                    if other not in {one, erased} | set(follows[one]) | hides[one]
                }
                assert {user["id"] for user in listed} == popular
            assert len({user["id"] for user in listed}) == len(listed)


async def test_a_suggestion_names_its_reason(square: Square) -> None:
    names = ("me", "ada", "bob", "cleo", "dan", "eve")
    me, ada, bob, cleo, dan, eve = [await square.member(name) for name in names]
    for near in (ada, bob, cleo, dan):
        await square.follow(near, eve)
    reasons = []
    for near in (ada, bob, cleo, dan):
        await square.follow(me, near)
        async with discovering(square) as asked:
            (found,) = (await asked.get("/api/suggestions", me))["users"]
            reasons.append(found["reason"])
    assert reasons == [
        "Followed by Ada",
        "Followed by Bob and Ada",
        "Followed by Cleo, Bob and 1 other",
        "Followed by Dan, Cleo and 2 others",
    ]
    async with discovering(square) as asked:
        (found, *_) = (await asked.get("/api/suggestions", eve))["users"]
    assert found["reason"] == "Popular: 1 follower"
    assert found["mutualCount"] == 0


async def test_suggestions_are_for_those_who_have_a_session(square: Square) -> None:
    me = await square.member("me")
    async with discovering(square) as asked:
        assert (await asked.raw("/api/suggestions")).status_code == 401
        for query in ({"limit": "0"}, {"cursor": "bad"}):
            assert (await asked.raw("/api/suggestions", me, **query)).status_code == 422


async def test_a_newcomer_is_shown_posts_that_are_labelled(square: Square) -> None:
    newcomer, left, star, fan, tagger, hidden = [
        await square.member(name) for name in ("new", "left", "star", "fan", "tagger", "hidden")
    ]
    by_star = [await square.post(star, f"number {number}") for number in range(5)]
    await square.follow(fan, star)
    await square.follow(fan, left)
    await square.post(left, "whom the newcomer has left")
    await square.follow(newcomer, left)
    await square.unfollow(newcomer, left)
    tagged = await square.post(tagger, "on #tea")
    await square.post(hidden, "on #tea, too")
    await square.hide(newcomer, hidden, "mute")
    async with discovering(square) as asked:
        listed = await pages(asked, "/api/feed", "posts", newcomer, limit=2)
        assert {post["postId"]: post["reason"] for post in listed} == {
            by_star[4]: "Popular: 1 follower",
            by_star[3]: "Popular: 1 follower",
            by_star[2]: "Popular: 1 follower",
            tagged: "Trending: #tea",
        }
        assert {post["kind"] for post in listed} == {"recommended"}
        first = listed[0]["postId"]
        explained = await asked.get(f"/api/feed/explain/{first}", newcomer)
        assert (explained["inFeed"], explained["place"]) == (True, 1)
        assert explained["sources"][0]["kind"] == "recommended"
        assert explained["reason"] == listed[0]["reason"]
        assert (await asked.get("/api/feed", newcomer, asOf=square.applied))["posts"] == []
        assert (await asked.get("/api/feed", newcomer, mode="latest"))["posts"] == []


async def test_nothing_is_recommended_beside_a_timeline(square: Square) -> None:
    newcomer, star, quiet = [await square.member(name) for name in ("new", "star", "quiet")]
    await square.follow(quiet, star)
    by_star = await square.post(star, "hello")
    async with discovering(square) as asked:
        # Whoever is followed may have nothing to show.
        await square.follow(newcomer, quiet)
        await square.apply()
        (shown,) = (await asked.get("/api/feed", newcomer))["posts"]
        assert (shown["postId"], shown["kind"]) == (by_star, "recommended")
        own = await square.post(newcomer, "my first")
        await square.apply()
        posts = (await asked.get("/api/feed", newcomer))["posts"]
        assert [(post["postId"], post["kind"]) for post in posts] == [(own, "post")]
        await square.delete(own)
        await square.apply()
        (shown,) = (await asked.get("/api/feed", newcomer))["posts"]
        assert shown["kind"] == "recommended"
        await square.follow(newcomer, star)
        await square.apply()
        (shown,) = (await asked.get("/api/feed", newcomer))["posts"]
        assert (shown["kind"], "reason" in shown) == ("post", False)


async def test_what_is_deleted_or_erased_is_not_recommended_any_more(square: Square) -> None:
    newcomer, star, fan, gone = [await square.member(name) for name in ("a1", "star", "fan", "b1")]
    for followee in (star, gone):
        await square.follow(fan, followee)
    kept, deleted = await square.post(star, "kept"), await square.post(star, "deleted")
    await square.post(gone, "erased")
    async with discovering(square) as asked:
        page = await asked.get("/api/feed", newcomer, limit=1)
        assert page["hasMore"]
        await square.delete(deleted)
        await square.erase(gone)
        await square.apply()
        listed = await pages(asked, "/api/feed", "posts", newcomer)
        assert [post["postId"] for post in listed] == [kept]
        rest = await pages(
            asked, "/api/feed", "posts", newcomer, limit=1, cursor=page["nextCursor"]
        )
        assert {post["postId"] for post in rest} <= {kept}
