"""One connection to Redis, and what becomes of requests when it is lost."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hiredis
import pytest

from infra.adapters.timelines.redis_connection import (
    RedisConnection,
    RedisRefused,
    RedisUnavailable,
    command,
    digest,
    parse_address,
)
from infra.servers.process import ServerProcess, start
from infra.servers.valkey import valkey_program


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(redis_url, wait_seconds=2.0)
    connection.start()
    assert await connection.wait_until_up(5)
    yield connection
    await connection.close()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ServerProcess]:
    server = start(valkey_program(tmp_path))
    yield server
    server.kill()


async def test_answers_come_in_the_order_asked(connection: RedisConnection) -> None:
    sent = [connection.send(command("ECHO", n)) for n in range(1000)]
    assert await asyncio.gather(*sent) == [[b"%d" % n] for n in range(1000)]
    several = command("SET", "k", b"\x00\r\n\xff") + command("GET", "k") + command("DEL", "k", "m")
    assert await connection.send(several, 3) == [b"OK", b"\x00\r\n\xff", 1]


async def test_large_answers_come_whole(connection: RedisConnection) -> None:
    value = bytes(range(256)) * 20_000
    await connection.ask("SET", "large", value)
    assert await asyncio.gather(*(connection.ask("GET", "large") for _ in range(5))) == [value] * 5


async def test_an_error_is_one_answer_among_others(connection: RedisConnection) -> None:
    found = await connection.send(command("PING") + command("NONSENSE") + command("PING"), 3)
    assert found[0] == found[2] == b"PONG"
    assert isinstance(found[1], hiredis.ReplyError)
    with pytest.raises(RedisRefused):
        await connection.ask("NONSENSE")


async def test_whoever_gives_up_does_not_shift_the_answers(connection: RedisConnection) -> None:
    first = connection.send(command("ECHO", "a"))
    second = connection.send(command("ECHO", "b"))
    first.cancel()
    assert await second == [b"b"]


async def test_a_lost_connection_fails_what_waits_and_is_made_anew(
    connection: RedisConnection, redis_url: str
) -> None:
    waiting = connection.send(command("BLPOP", "nothing", 0))
    generation = connection.generation
    other = RedisConnection(redis_url, wait_seconds=2.0)
    other.start()
    assert await other.wait_until_up(5)
    await other.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(RedisUnavailable):
        await waiting
    assert await connection.wait_until_up(5)
    assert connection.generation == generation + 1
    assert await connection.ask("PING") == b"PONG"
    await other.close()


async def test_a_server_that_is_silent_costs_one_wait_and_then_none(
    own_valkey: ServerProcess,
) -> None:
    connection = RedisConnection(own_valkey.program.url, wait_seconds=0.2)
    connection.start()
    assert await connection.wait_until_up(5)
    os.kill(own_valkey.process.pid, signal.SIGSTOP)
    started = time.perf_counter()
    with pytest.raises(RedisUnavailable):
        await connection.ask("PING")
    assert time.perf_counter() - started < 30
    # It accepts connections, since the kernel does; it is not taken for alive by that.
    for _ in range(20):
        await asyncio.sleep(0.02)
        with pytest.raises(RedisUnavailable):
            connection.send(command("PING"))
    os.kill(own_valkey.process.pid, signal.SIGCONT)
    assert await connection.wait_until_up(5)
    assert await connection.ask("PING") == b"PONG"
    await connection.close()


async def test_scripts_are_there_before_anything_is_asked(own_valkey: ServerProcess) -> None:
    url = own_valkey.program.url
    connection = RedisConnection(url, wait_seconds=1.0, scripts=("return 7",))
    connection.start()
    assert await connection.wait_until_up(5)
    assert await connection.ask("EVALSHA", digest("return 7"), 0) == 7
    own_valkey.kill()
    again = await asyncio.to_thread(start, own_valkey.program)
    try:
        await asyncio.sleep(0.1)
        assert await connection.wait_until_up(5)
        assert connection.generation == 2
        assert await connection.ask("EVALSHA", digest("return 7"), 0) == 7
    finally:
        again.kill()
    await connection.close()


async def test_a_password_and_a_database_are_used(own_valkey: ServerProcess) -> None:
    plain = RedisConnection(own_valkey.program.url, wait_seconds=1.0)
    plain.start()
    assert await plain.wait_until_up(5)
    await plain.ask("CONFIG", "SET", "requirepass", "p@ss word")
    port = own_valkey.program.url.split(":")[-1].split("/")[0]
    connection = RedisConnection(f"redis://:p%40ss%20word@127.0.0.1:{port}/3", wait_seconds=1.0)
    connection.start()
    assert await connection.wait_until_up(5)
    await connection.ask("SET", "here", 1)
    assert "db=3" in (await connection.ask("CLIENT", "INFO")).decode()
    stranger = RedisConnection(f"redis://127.0.0.1:{port}/0", wait_seconds=1.0)
    stranger.start()
    assert not await stranger.wait_until_up(0.3)
    for each in (plain, connection, stranger):
        await each.close()


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("redis://cache:7000/2", "cache", 7000, ""),
        ("redis://cache", "cache", 6379, ""),
        ("rediss://u:p@cache:1/0", "cache", 1, ""),
        ("unix:///run/valkey.sock", "", 0, "/run/valkey.sock"),
    ],
)
def test_an_address_names_a_host_or_a_socket(url: str, host: str, port: int, path: str) -> None:
    address = parse_address(url)
    assert (address.host, address.port, address.path) == (host, port, path)
    assert address.tls is url.startswith("rediss")


def test_other_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="not an address"):
        parse_address("http://cache")
