"""The page cache that query services share."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis

from infra.adapters.redis_connection import RedisUnavailable
from infra.adapters.redis_pages import Kind, RedisPages, Versioned


@pytest.fixture
async def pages(redis_url: str) -> AsyncIterator[RedisPages]:
    pages = RedisPages(redis_url, "log1", counters_max=10, lease_seconds=0.3)
    await pages.open()
    assert await pages.wait_until_reachable(5)
    yield pages
    await pages.close()


async def test_what_is_kept_is_found_in_the_order_asked_for(pages: RedisPages) -> None:
    values = {n: Versioned(n, b"\x00post %d\xff" % n) for n in (1, 2, 3)}
    assert await pages.put(Kind.FRAGMENT, values) == 3
    assert await pages.get(Kind.FRAGMENT, [3, 9, 1]) == [values[3], None, values[1]]
    assert await pages.get(Kind.COUNTERS, [1]) == [None]
    assert await pages.get(Kind.FRAGMENT, []) == []


async def test_an_older_value_never_replaces_a_newer(pages: RedisPages) -> None:
    new, old = Versioned(2**40 + 7, b"new"), Versioned(2**32 + 8, b"old")
    for kind in Kind:
        assert await pages.put(kind, {1: new}) == 1
        assert await pages.put(kind, {1: old}) == 0
        assert await pages.get(kind, [1]) == [new]


async def test_fragments_end_after_an_hour_and_counters_never(
    pages: RedisPages, redis_url: str
) -> None:
    for kind in Kind:
        await pages.put(kind, {n: Versioned(1, b"x") for n in range(10)})
    with redis.Redis.from_url(redis_url) as client:
        ends = {client.ttl(f"log1:f:{n}") for n in range(10)}
        assert all(3200 <= seconds <= 3960 for seconds in ends)
        assert {client.ttl(f"log1:n:{n}") for n in range(10)} == {-1}


async def test_there_are_only_so_many_counters(pages: RedisPages) -> None:
    for n in range(25):
        await pages.put(Kind.COUNTERS, {n: Versioned(1, b"x")})
        await pages.put(Kind.COUNTERS, {n: Versioned(2, b"y")})
    found = await pages.get(Kind.COUNTERS, range(25))
    assert [n for n, value in enumerate(found) if value] == list(range(15, 25))


async def test_of_a_thousand_who_miss_at_once_one_loads(pages: RedisPages, redis_url: str) -> None:
    loads = 0
    others = [RedisPages(redis_url, "log1") for _ in range(3)]
    for other in others:
        await other.open()
        assert await other.wait_until_reachable(5)

    async def load() -> Versioned:
        nonlocal loads
        loads += 1
        await asyncio.sleep(0.05)
        return Versioned(5, b"dear")

    asked = [
        each.get_or_load(Kind.FRAGMENT, 1, load) for _ in range(250) for each in (pages, *others)
    ]
    assert set(await asyncio.gather(*asked)) == {Versioned(5, b"dear")}
    assert loads == 1
    for other in others:
        await other.close()


async def test_when_the_one_who_loads_dies_another_does(pages: RedisPages, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("log1:f:1:lease", "of one who died", px=300)

    async def load() -> Versioned:
        return Versioned(5, b"dear")

    started = time.monotonic()
    assert await pages.get_or_load(Kind.FRAGMENT, 1, load) == Versioned(5, b"dear")
    assert 0.1 < time.monotonic() - started < 2


async def test_a_load_that_fails_leaves_the_next_one_free_to_try(pages: RedisPages) -> None:
    async def fail() -> Versioned:
        raise LookupError

    async def load() -> Versioned:
        return Versioned(5, b"dear")

    with pytest.raises(LookupError):
        await pages.get_or_load(Kind.FRAGMENT, 1, fail)
    started = time.monotonic()
    assert await pages.get_or_load(Kind.FRAGMENT, 1, load) == Versioned(5, b"dear")
    assert time.monotonic() - started < 0.2


async def test_without_redis_it_is_said_at_once() -> None:
    pages = RedisPages("redis://127.0.0.1:1/0", "log1")
    await pages.open()
    with pytest.raises(RedisUnavailable):
        await pages.get(Kind.FRAGMENT, [1])
    await pages.close()
