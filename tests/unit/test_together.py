"""Questions asked at one moment go in one statement, and each gets its own answer."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from infra.adapters.reads.together import Together
from infra.ports.log import LogUnavailable
from tests.waiting import until


class Shelf:
    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def find(self, names: Sequence[str]) -> Mapping[str, int]:
        self.asked.append(names)
        await self.open.wait()
        if "broken" in names:
            raise ValueError("broken")
        return {name: len(name) for name in names if name != "gone"}


async def test_what_is_asked_at_one_moment_is_one_statement() -> None:
    shelf = Shelf()
    together = Together(shelf.find)
    assert await asyncio.gather(*map(together.ask, ("mug", "gone", "mug"))) == [3, None, 3]
    assert shelf.asked == [["mug", "gone"]]
    assert await together.ask_many(["pot", "gone"]) == {"pot": 3}


async def test_what_is_on_its_way_is_asked_again_for_who_comes_later() -> None:
    shelf = Shelf()
    shelf.open.clear()
    together = Together(shelf.find)
    first = asyncio.create_task(together.ask("mug"))
    await until(lambda: shelf.asked)
    later = [asyncio.create_task(together.ask(name)) for name in ("mug", "pot")]
    await asyncio.sleep(0.01)
    shelf.open.set()
    assert await asyncio.gather(first, *later) == [3, 3, 3]
    assert shelf.asked == [["mug"], ["mug", "pot"]]


async def test_nobody_fails_for_another_key() -> None:
    together = Together(Shelf().find)
    found = await asyncio.gather(*map(together.ask, ("mug", "broken")), return_exceptions=True)
    assert found[0] == 3
    assert isinstance(found[1], ValueError)


async def test_while_the_server_is_away_everybody_is_told_at_once() -> None:
    asked: list[Sequence[str]] = []

    async def away(names: Sequence[str]) -> Mapping[str, int]:
        asked.append(names)
        raise LogUnavailable("away")

    together = Together(away)
    found = await asyncio.gather(*map(together.ask, ("mug", "pot")), return_exceptions=True)
    assert [type(one) for one in found] == [LogUnavailable, LogUnavailable]
    assert asked == [["mug", "pot"]]


async def test_who_stops_waiting_takes_nobody_with_them() -> None:
    shelf = Shelf()
    shelf.open.clear()
    together = Together(shelf.find)
    one, other = (asyncio.create_task(together.ask("mug")) for _ in range(2))
    await until(lambda: shelf.asked)
    one.cancel()
    shelf.open.set()
    assert await other == 3
    with pytest.raises(asyncio.CancelledError):
        await one
