"""Newest pages that are answered without a task are those that the ordinary way answers."""

import random

import pytest

from tests.asking import Asking
from tests.integration.test_pages_follow_the_law import Chance
from tests.square import Square, pushing

ROUNDS = 20
# What comes from a web page elsewhere is answered by the application's task.
ORDINARY = {"Origin": "https://elsewhere.example"}


@pytest.mark.parametrize("seed", range(3))
async def test_both_ways_answer_the_same_pages(square: Square, redis_url: str, seed: int) -> None:
    dice = random.Random(seed)
    chance = Chance(square, dice)
    await chance.gather()
    shown = 0
    async with pushing(square, redis_url, 100), Asking.open(square, redis_url) as asking:
        for _ in range(40):
            await chance.act()
        for _ in range(ROUNDS):
            for _ in range(dice.randint(0, 6)):
                await chance.act()
            await square.apply()
            member = dice.choice(chance.members)
            limit = dice.choice([1, 3, 20])
            path = f"/api/feed?limit={limit}"
            await asking.get(path, member)
            headers = {"Authorization": f"Bearer {asking.token(member)}"}
            ordinary = await asking.http.get(path, headers=headers | ORDINARY)
            begun = await asking.http.get(path, headers=headers)
            assert begun.json() == ordinary.json()
            assert begun.headers["content-type"] == ordinary.headers["content-type"]
            assert begun.headers["x-request-id"] != ordinary.headers["x-request-id"]
            shown += len(begun.json()["posts"])
        assert asking.front.answered > ROUNDS // 3
        assert shown
