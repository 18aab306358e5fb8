"""The servers that tests share: started once a run, each test in a database of its own."""

import asyncio
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
import redis
import uvloop

from infra.servers.postgres import start_postgres
from infra.servers.valkey import start_valkey


def pytest_asyncio_loop_factories(
    config: pytest.Config,  # noqa: ARG001
    item: pytest.Item,  # noqa: ARG001
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


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


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server, url = start_valkey(Path(tmp_path_factory.mktemp("valkey")))
    yield url
    server.stop()


@pytest.fixture
def redis_url(valkey_server: str) -> str:
    """A Valkey with nothing in it."""
    with redis.Redis.from_url(valkey_server) as client:
        client.flushall()
    return valkey_server
