"""A search server that is dead or slow is left alone, and asked again by one before the others."""

import asyncio
from dataclasses import replace

import pytest

from infra.adapters.search.search_guard import Guard, Limits, ServerFailed
from infra.ports.search_reads import SearchUnanswered

LIMITS = Limits(
    seconds=0.05, running_max=2, waiting_max=3, failures_max=3, rest_seconds=4, rest_seconds_max=8
)


class Server:
    def __init__(self, limits: Limits = LIMITS) -> None:
        self.now = 100.0
        self.guard = Guard(limits, lambda: self.now)
        self.asked = 0
        self.at_once = 0
        self.most_at_once = 0
        self.fails = False
        self.slow = False
        self.answers = asyncio.Event()

    async def ask(self) -> str:
        async with self.guard.call():
            self.asked += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                return await self._answer()
            finally:
                self.at_once -= 1

    async def _answer(self) -> str:
        if self.slow:
            await self.answers.wait()
        if self.fails:
            raise ServerFailed("broken")
        return "tea"

    async def refused(self) -> SearchUnanswered:
        with pytest.raises(SearchUnanswered) as refusal:
            await self.ask()
        return refusal.value


async def test_after_some_failures_it_is_left_alone_for_a_while() -> None:
    server = Server()
    server.fails = True
    for _ in range(3):
        await server.refused()
    assert (await server.refused()).retry_seconds == 4
    assert server.asked == 3
    server.now += 4
    await server.refused()
    assert server.asked == 4
    # It is left alone for longer the next time, up to a limit.
    for seconds in (8, 8):
        assert (await server.refused()).retry_seconds == seconds
        server.now += seconds
        await server.refused()
    server.fails = False
    server.now += 8
    assert await server.ask() == "tea"
    assert await server.ask() == "tea"


async def test_one_asks_before_the_others_do() -> None:
    server = Server()
    server.fails = True
    for _ in range(3):
        await server.refused()
    server.now += 4
    server.slow = True
    probe = asyncio.create_task(server.refused())
    await asyncio.sleep(0)
    await server.refused()
    assert server.asked == 4
    await probe


async def test_who_gives_up_asking_first_does_not_keep_the_others_from_it() -> None:
    server = Server()
    server.fails = True
    for _ in range(3):
        await server.refused()
    server.now += 4
    server.fails, server.slow = False, True
    probe = asyncio.create_task(server.ask())
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    server.slow = False
    assert await server.ask() == "tea"


async def test_a_success_in_between_keeps_it_in_use() -> None:
    server = Server()
    for _ in range(5):
        server.fails = True
        await server.refused()
        await server.refused()
        server.fails = False
        assert await server.ask() == "tea"


async def test_calls_that_fail_together_are_one_failure_of_the_server() -> None:
    server = Server(replace(LIMITS, running_max=6, seconds=60))
    server.fails = server.slow = True
    calls = [asyncio.create_task(server.refused()) for _ in range(6)]
    await asyncio.sleep(0)
    server.answers.set()
    await asyncio.gather(*calls)
    assert server.most_at_once == 6
    assert (await server.refused()).retry_seconds == 4
    server.now += 4
    await server.refused()
    assert (await server.refused()).retry_seconds == 8


async def test_slow_calls_end_in_time_and_no_more_wait_than_may() -> None:
    server = Server()
    server.slow = True
    waiting = [asyncio.create_task(server.refused()) for _ in range(20)]
    # None of the calls is ever answered: that all end is the guard's doing.
    refusals = await asyncio.wait_for(asyncio.gather(*waiting), 60)
    assert sum("Too many" in str(one) for one in refusals) == 15
    assert server.most_at_once == 2
    # A call that ends gives its turn to one that waits, if that has time left.
    assert 2 <= server.asked <= 5
    assert server.at_once == 0
