"""The servers that tests share: started once a run, each test in a database of its own."""

import asyncio
import functools
import inspect
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import uvloop

from infra.servers.java import JavaMissing, find_java
from infra.servers.opensearch import start_opensearch
from infra.servers.osmem import start_osmem
from infra.servers.postgres import start_postgres
from infra.servers.valkey import start_valkey
from tests.square import Square

SERVERS = {"postgres_server", "valkey_server", "search_url", "stand_in"}
NO_FULL_TIER = pytest.StashKey[str]()


def pytest_asyncio_loop_factories(
    config: pytest.Config,  # noqa: ARG001
    item: pytest.Item,  # noqa: ARG001
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-faults", action="store_true", help="also the long fault runs: `make fault`"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long unless asked for, and what needs a Java where there is none.

    With PLAZA_REQUIRE_FULL=1 the latter is an error instead.
    """
    if not config.getoption("--all-faults"):
        config.hook.pytest_deselected(items=[item for item in items if is_long(item)])
        items[:] = [item for item in items if not is_long(item)]
    mark_what_needs_servers(items)
    bound_waits(items)
    if not any(item.get_closest_marker("full") for item in items):
        return
    try:
        find_java(os.environ)
    except JavaMissing as missing:
        if os.environ.get("PLAZA_REQUIRE_FULL") == "1":
            raise pytest.UsageError(f"PLAZA_REQUIRE_FULL=1, but {missing}") from missing
        config.stash[NO_FULL_TIER] = str(missing)
        skip(items, "full", str(missing))


def mark_what_needs_servers(items: list[pytest.Item]) -> None:
    """`make check` leaves these out: it is to be over before one has thought of something else."""
    for item in items:
        if SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("servers")


def bound_waits(items: list[pytest.Item]) -> None:
    """End tests that wait for ever: a uvloop that waits does not see pytest-timeout's signal."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            marker = item.get_closest_marker("timeout")
            seconds = marker.args[0] if marker else item.config.getini("timeout")
            item.obj = bounded(item.obj, float(seconds))


def bounded(
    test: Callable[..., Coroutine[Any, Any, None]], seconds: float
) -> Callable[..., Coroutine[Any, Any, None]]:
    @functools.wraps(test)
    async def within(*arguments: Any, **named: Any) -> None:
        async with asyncio.timeout(seconds):
            await test(*arguments, **named)

    return within


def is_long(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    why = config.stash.get(NO_FULL_TIER, None)
    if why is not None:
        terminalreporter.write_line(f"The full tier was left out: {why}", yellow=True)


def skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    # PostgreSQL runs as another user when we are root, who must be able to reach the folder. Each
    # start of pytest closes its own folders to others, also under the runs that have begun.
    with tempfile.TemporaryDirectory(prefix="plaza-postgres-") as folder:
        Path(folder).chmod(0o755)
        server, url = start_postgres(Path(folder))
        yield url
        server.stop()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A fresh, empty database."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres_server.rpartition("/")[0] + "/" + name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def square(postgres_url: str) -> AsyncIterator[Square]:
    """A square in that database, where nothing has happened yet."""
    opened = await Square.open(postgres_url)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server, url = start_valkey(Path(tmp_path_factory.mktemp("valkey")))
    yield url
    server.stop()


@pytest.fixture(scope="session")
def osmem_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server, url = start_osmem(Path(tmp_path_factory.mktemp("search")))
    yield url
    server.stop()


@pytest.fixture(scope="session")
def opensearch_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """OpenSearch itself: only for tests marked `full`."""
    server, url = start_opensearch(Path(tmp_path_factory.mktemp("opensearch")), os.environ)
    yield url
    server.stop()


@pytest.fixture(params=["osmem", pytest.param("opensearch", marks=pytest.mark.full)])
def search_url(request: pytest.FixtureRequest) -> str:
    """A search server, one after the other; what is in it is of the tests before."""
    return str(request.getfixturevalue(f"{request.param}_server"))


@pytest.fixture
def redis_url(valkey_server: str) -> str:
    """A Valkey with nothing in it."""
    with redis.Redis.from_url(valkey_server) as client:
        client.flushall()
    return valkey_server
