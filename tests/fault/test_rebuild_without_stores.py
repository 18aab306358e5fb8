"""Stores that go away in the middle of a rebuild: what is served stays, and asked again it goes on.

Whoever rebuilds reaches them through a proxy; readers do not.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest

from infra.composition.operations.search_keeper import SearchKeeper
from infra.composition.operations.tables_keeper import TablesKeeper
from infra.composition.operations.timelines_keeper import TimelinesKeeper
from infra.composition.settings import Settings
from infra.ports.keepers import Keeper, Rebuilt, Wishes
from infra.ports.log import LogUnavailable
from infra.ports.tables import StoreUnavailable
from infra.ports.timelines import TimelinesUnavailable
from infra.runtime.projecting.project import Projector
from infra.runtime.rebuilding import rebuild as rebuilding
from projections import posts
from projections.search import SEARCH
from tests.asking import Asking
from tests.integration.proxy import Proxy, proxied
from tests.integration.tables import contents
from tests.integration.test_rebuild import statuses
from tests.integration.test_verify import served
from tests.searching import happen, searching
from tests.square import Square, pushing

AWAY = (StoreUnavailable, LogUnavailable, TimelinesUnavailable)
CUTS = ("loading", "indexing", "comparing")


@dataclass
class Mishap:
    """Progress that has something happen, once, when a step is told of; the rebuild may run in
    another thread."""

    step: str
    happens: Callable[[], Coroutine[Any, Any, None]]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    happened: bool = False

    def __call__(self, what: str, _reached: int, _end: int) -> None:
        if what == self.step and not self.happened:
            self.happened = True
            asyncio.run_coroutine_threadsafe(self.happens(), self.loop)


@pytest.fixture(autouse=True)
def _small_steps_and_little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "LOAD_LINES", 100)
    monkeypatch.setattr(rebuilding, "RETIRE_SECONDS", 0.0)
    monkeypatch.setattr(rebuilding, "Projector", partial(Projector, patience_seconds=2.0))


async def cut(proxy: Proxy) -> None:
    """As a server that is restarted: whoever was connected is not, and can be again."""
    proxy.cut()


@pytest.mark.parametrize("step", CUTS)
async def test_postgresql_is_restarted_in_the_middle(postgres_url: str, step: str) -> None:
    await served(postgres_url, 191)
    expected = contents(postgres_url, [posts.PROJECTION])
    async with proxied(postgres_url) as proxy:
        keeper = TablesKeeper(Settings(postgres_url=proxy.url), posts.PROJECTION)
        mishap = Mishap(step, lambda: cut(proxy))
        try:
            done = await keeper.rebuild(mishap, Wishes())
        except AWAY:
            if (2, "live") in statuses(postgres_url, "posts"):
                # The cut was noticed just after the switch.
                assert contents(postgres_url, [posts.PROJECTION], 2) == expected
                return
            assert (1, "live") in statuses(postgres_url, "posts")
            assert contents(postgres_url, [posts.PROJECTION]) == expected
            done = await keeper.rebuild(rebuilding.nothing_told, Wishes())
    assert mishap.happened
    assert done.switched
    assert done.build == 2
    assert contents(postgres_url, [posts.PROJECTION], done.build) == expected


async def test_postgresql_that_stays_away_is_told_of(postgres_url: str) -> None:
    await served(postgres_url, 192)
    expected = contents(postgres_url, [posts.PROJECTION])
    async with proxied(postgres_url) as proxy:
        keeper = TablesKeeper(Settings(postgres_url=proxy.url), posts.PROJECTION)
        with pytest.raises((StoreUnavailable, LogUnavailable), match=r"\w"):
            await keeper.rebuild(Mishap("loading", proxy.close), Wishes())
        assert (1, "live") in statuses(postgres_url, "posts")
        assert contents(postgres_url, [posts.PROJECTION]) == expected
        await proxy.open()
        done = await keeper.rebuild(rebuilding.nothing_told, Wishes())
    assert (done.switched, done.build) == (True, 2)
    assert done.resumed_at > 0
    assert contents(postgres_url, [posts.PROJECTION], 2) == expected


async def fails_then_goes_on(
    keeper: Keeper, step: str, proxy: Proxy, is_served: Callable[[], Awaitable[bool]]
) -> Rebuilt:
    with pytest.raises(AWAY, match=r"\w"):
        await keeper.rebuild(Mishap(step, proxy.close), Wishes())
    assert await is_served()
    await proxy.open()
    return await keeper.rebuild(rebuilding.nothing_told, Wishes())


async def test_redis_goes_away_in_the_middle(postgres_url: str, redis_url: str) -> None:
    square = await Square.open(postgres_url)
    people = [await square.member(f"m{number}") for number in range(12)]
    for member in people[1:]:
        await square.follow(member, people[0])
    for number in range(20):
        await square.post(people[0], f"post {number}")
    await square.apply()
    async with (
        pushing(square, redis_url, 1_000),
        Asking.open(square, redis_url) as asking,
        proxied(redis_url) as proxy,
    ):
        expected = {member: await asking.feed(member) for member in people}

        async def is_served() -> bool:
            return {member: await asking.feed(member) for member in people} == expected

        there = f"redis://127.0.0.1:{urlsplit(proxy.url).port}/0"
        keeper = TimelinesKeeper(Settings(postgres_url=postgres_url, redis_url=there))
        done = await fails_then_goes_on(keeper, "rebuilding", proxy, is_served)
        assert done.switched
        assert await is_served()
        found = await keeper.verify(rebuilding.nothing_told)
        assert (found.documents, found.different) == (len(people), 0)
    await square.close()


async def test_the_search_server_goes_away_in_the_middle(
    postgres_url: str, search_url: str
) -> None:
    async with searching(postgres_url, search_url) as world, proxied(search_url) as proxy:
        await world.start("search_posts")
        await happen(world.square, random.Random(193), 200)
        await world.apply()
        await world.settle("search_posts")
        expected = await world.expected("search_posts")
        there = f"http://127.0.0.1:{urlsplit(proxy.url).port}"
        settings = Settings(postgres_url=postgres_url, opensearch_url=there)
        keeper = SearchKeeper(settings, SEARCH["search_posts"], 0.1, 2.0)
        done = await fails_then_goes_on(
            keeper, "rebuilding", proxy, lambda: world.is_the_fold("search_posts")
        )
        assert done.switched
        assert await world.found("search_posts") == expected
