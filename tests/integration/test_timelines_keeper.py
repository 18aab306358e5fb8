"""Home timelines as operators check them: a flipped byte is named, and mended alone."""

import pytest
import redis

from domain.shared.identifiers import id_text
from infra.composition.operations.timelines_keeper import TimelinesKeeper
from infra.composition.settings import Settings
from infra.ports.keepers import CannotSwitch, NoSuchKey, Wishes
from tests.asking import Asking
from tests.square import Square, pushing

CELEBRITIES_FROM = 6


def nothing(_what: str, _reached: int, _end: int) -> None:
    """Nobody watches."""


def flip_a_byte(redis_url: str, member: str, slot: int = -1) -> None:
    """In a slot of a member's timeline, or in the newest entry."""
    with redis.Redis.from_url(redis_url) as client:
        (name,) = client.keys(f"t:*:{member}")
        slots = bytearray(client.get(name) or b"")
        slots[4 * slot] ^= 3
        client.set(name, bytes(slots))


def behind_a_repost(redis_url: str, member: str) -> int:
    """The slot that says which post a repost is of."""
    with redis.Redis.from_url(redis_url) as client:
        (name,) = client.keys(f"t:*:{member}")
        slots = client.get(name) or b""
    return 1 + next(n for n in range(len(slots) // 4) if slots[4 * n + 3] >> 7)


async def test_timelines_are_checked_mended_and_made_anew(
    postgres_url: str, redis_url: str
) -> None:
    square = await Square.open(postgres_url)
    keeper = TimelinesKeeper(Settings(postgres_url=postgres_url, redis_url=redis_url))
    people = [await square.member(f"m{number}") for number in range(8)]
    star, ann, *_ = people
    for member in people[1:]:
        await square.follow(member, star)
        await square.follow(star, member)
        await square.follow(member, people[1 + people.index(member) % 7])
    await square.apply()
    async with (
        pushing(square, redis_url, CELEBRITIES_FROM),
        Asking.open(square, redis_url) as asking,
    ):
        for member in people:
            await asking.feed(member)
        for number in range(30):
            author = people[number % len(people)]
            post = await square.post(author, f"post {number}")
            if number % 5 == 0:
                await square.repost(people[(number + 3) % len(people)], post)
            await square.apply()
        expected = {member: await asking.feed(member) for member in people}
        found = await keeper.verify(nothing)
        assert (found.documents, found.different, found.position) == (8, 0, square.applied)

        flip_a_byte(redis_url, ann)
        found = await keeper.verify(nothing)
        assert found.different == 1
        (one,) = found.examples
        assert one.served is not None
        assert one.served["member"] == ann
        found = await keeper.verify(nothing, repair=True)
        assert (found.different, found.repaired) == (1, 1)
        assert (await keeper.verify(nothing)).different == 0
        assert {member: await asking.feed(member) for member in people} == expected

        flip_a_byte(redis_url, ann, behind_a_repost(redis_url, ann))
        found = await keeper.verify(nothing, repair=True)
        assert (found.different, found.repaired) == (1, 1)
        assert (await keeper.verify(nothing)).different == 0

        # What is pushed to timelines made anew arrives there.
        assert (await keeper.rebuild(nothing, Wishes())).switched
        assert await keeper.rebuild_key(f"member:{ann}", nothing) == 1
        post = await square.post(star, "after all that")
        await square.apply()
        assert (await asking.feed(ann))[0] == post
        assert (await keeper.verify(nothing)).different == 0

        assert (await keeper.rebuild(nothing, Wishes(anew=True))).switched
        assert (await asking.feed(ann))[0] == post
        assert (await keeper.verify(nothing)).documents <= 1

        (row,) = await keeper.overview()
        assert (row["status"], row["position"]) == ("live", square.applied)
    await square.close()
    with pytest.raises(NoSuchKey):
        await keeper.rebuild_key(f"post:{id_text(1)}", nothing)
    with pytest.raises(CannotSwitch):
        await keeper.switch(None, nothing)


async def test_without_a_store_nothing_is_listed(postgres_url: str) -> None:
    assert await TimelinesKeeper(Settings(postgres_url=postgres_url)).overview() == []
