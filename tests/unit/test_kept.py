"""What takes long to find out is found out by one for all, and handed out while it is fresh."""

import asyncio

from infra.http.consistency import Applied
from infra.ports.reads import ReadsUnavailable
from query_api.caches.kept import FRESH_TIMES, STALE_TIMES, Kept

COST = 2.0


class Looking:
    """Finding out takes `COST` seconds of a clock of its own, once it is let."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = 0
        self.let = asyncio.Event()
        self.let.set()
        self.applied = Applied()
        self.kept = Kept(self.look, self.applied, lambda: self.now)

    async def look(self) -> int:
        self.looks += 1
        look = self.looks
        await self.let.wait()
        self.now += COST
        return look


async def test_many_who_ask_at_once_cause_one_look() -> None:
    looking = Looking()
    looking.let.clear()
    asking = [asyncio.create_task(looking.kept.get()) for _ in range(50)]
    await asyncio.sleep(0)
    looking.let.set()
    assert await asyncio.gather(*asking) == [1] * 50
    assert looking.looks == 1


async def test_what_took_long_is_kept_for_long_and_then_handed_out_once_more() -> None:
    looking = Looking()
    assert await looking.kept.get() == 1
    looking.now += FRESH_TIMES * COST
    assert await looking.kept.get() == 1
    assert looking.looks == 1
    looking.now += 1
    assert await looking.kept.get() == 1
    while looking.looks < 2 or looking.kept._renewal is not None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert await looking.kept.get() == 2
    looking.now += FRESH_TIMES * COST * STALE_TIMES + 1
    assert await looking.kept.get() == 3


async def test_what_is_older_than_what_was_waited_for_is_not_handed_out() -> None:
    looking = Looking()
    assert await looking.kept.get() == 1
    looking.applied.advance(7)
    assert await looking.kept.get(7) == 2
    assert await looking.kept.get(7) == 2


async def test_what_could_not_be_renewed_is_handed_out_as_failing() -> None:
    answers: list[int | Exception] = [1, ReadsUnavailable("away"), 2]
    moments = [0.0]

    async def look() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    kept = Kept(look, Applied(), lambda: moments[-1])
    assert (await kept.get(), kept.failing) == (1, False)
    moments.append(1.0)
    assert (await kept.get(), kept.failing) == (1, True)
    moments.append(2.0)
    assert (await kept.get(), kept.failing) == (2, False)
