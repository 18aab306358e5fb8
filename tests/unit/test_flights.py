"""An answer is made once for all who ask at the same time, and kept for a moment."""

import asyncio

import pytest

from query_api.caches.flights import Flights


class Kitchen:
    """Makes answers when told to."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.ready = asyncio.Event()
        self.problem: Exception | None = None

    async def make(self) -> int:
        self.begun += 1
        try:
            await self.ready.wait()
        finally:
            self.ended += 1
        if self.problem is not None:
            raise self.problem
        return self.begun


async def test_a_thousand_who_ask_at_once_share_one_answer() -> None:
    kitchen, flights = Kitchen(), Flights(1.0, 10)
    asking = [asyncio.create_task(flights.get("tea", kitchen.make)) for _ in range(1_000)]
    await asyncio.sleep(0)
    kitchen.ready.set()
    assert set(await asyncio.gather(*asking)) == {1}
    assert (flights.made, flights.shared) == (1, 999)


async def test_an_answer_is_made_anew_once_its_time_is_over() -> None:
    now = 0.0
    kitchen, flights = Kitchen(), Flights(2.0, 10, lambda: now)
    kitchen.ready.set()
    assert await flights.get("tea", kitchen.make) == 1
    now = 1.9
    assert await flights.get("tea", kitchen.make) == 1
    now = 2.0
    assert await flights.get("tea", kitchen.make) == 2
    flights.forget_all()
    assert await flights.get("tea", kitchen.make) == 3


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    kitchen, flights = Kitchen(), Flights(1.0, 10)
    kitchen.problem = ValueError("no tea")
    asking = [asyncio.create_task(flights.get("tea", kitchen.make)) for _ in range(3)]
    kitchen.ready.set()
    told = await asyncio.gather(*asking, return_exceptions=True)
    assert [str(one) for one in told] == ["no tea"] * 3
    kitchen.problem = None
    assert await flights.get("tea", kitchen.make) == 2


async def test_work_goes_on_while_somebody_waits_and_ends_with_the_last() -> None:
    kitchen, flights = Kitchen(), Flights(1.0, 10)
    first = asyncio.create_task(flights.get("tea", kitchen.make))
    second = asyncio.create_task(flights.get("tea", kitchen.make))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert (kitchen.begun, kitchen.ended) == (1, 0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await asyncio.sleep(0)
    assert (kitchen.begun, kitchen.ended) == (1, 1)
    kitchen.ready.set()
    assert await flights.get("tea", kitchen.make) == 2


async def test_no_more_answers_are_kept_than_allowed() -> None:
    kitchen, flights = Kitchen(), Flights(1.0, 10)
    kitchen.ready.set()
    for key in range(100):
        await flights.get(key, kitchen.make)
    assert len(flights._flights) <= 10


async def test_an_answer_that_is_not_kept_is_only_shared_while_it_is_made() -> None:
    kitchen, flights = Kitchen(), Flights(0.0, 10)
    asking = [asyncio.create_task(flights.get("tea", kitchen.make)) for _ in range(3)]
    await asyncio.sleep(0)
    kitchen.ready.set()
    assert await asyncio.gather(*asking) == [1, 1, 1]
    assert not flights._flights.get("tea")
    assert await flights.get("tea", kitchen.make) == 2
