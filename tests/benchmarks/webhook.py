"""Notifications accepted a second, against one-row inserts over HTTP on the same server."""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import msgspec
import psycopg
import uvloop
from psycopg_pool import AsyncConnectionPool
from starlette.types import Receive, Scope, Send

from domain.shared.identifiers import id_text
from infra.adapters.migrations import migrate
from infra.composition.logging import configure_logging
from infra.composition.services import command_api
from infra.composition.settings import Settings
from infra.http.server import serve as serve_http
from infra.servers.adyen_stand_in.notifications import envelope, signed
from infra.servers.postgres import start_postgres
from infra.servers.process import free_port
from tests.benchmarks.feed_world import served
from tests.benchmarks.harness import Result, interleaved

NAME = "webhook"
TARGET = 0.7
CONNECTIONS = 64
ROUND_SECONDS = 3.0
REQUESTS_MAX = 15_000
HMAC_KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
PROBE_TABLE = """
    CREATE TABLE probe (id bigserial PRIMARY KEY, stream text NOT NULL, state bytea NOT NULL);
    CREATE INDEX ON probe (stream);
"""
INSERT = "INSERT INTO probe (stream, state) VALUES (%s, %s)"
_numbers = itertools.count(1)


class Inserting:
    """Reads a body and inserts it as one row: the plainest thing that stores what it is sent."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        async with self._pool.connection() as connection:
            await connection.execute(INSERT, [f"payment:{next(_numbers)}", body], prepare=True)
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"10")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"[accepted]"})


async def serve_inserts(url: str, ready: Callable[[int], None]) -> None:
    async with AsyncConnectionPool(
        url, min_size=16, max_size=16, kwargs={"autocommit": True}, open=False
    ) as pool:
        await serve_http(Inserting(pool), "127.0.0.1", 0, ready)


async def serve_commands(settings: Settings, ready: Callable[[int], None]) -> None:
    configure_logging("command-api", "error")
    await command_api.serve(settings, ready)


def run(rounds: int) -> Result:
    with database() as url:
        settings = Settings(postgres_url=url, command_api_port=free_port(), adyen_hmac_key=HMAC_KEY)
        with served(serve_inserts, url) as probe, served(serve_commands, settings) as service:
            return interleaved(
                NAME,
                unit="notifications/s",
                target=TARGET,
                rounds=rounds,
                measure=lambda: uvloop.run(accepted(service.port)),
                probe=lambda: uvloop.run(accepted(probe.port)),
            )


@contextmanager
def database() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        postgres, url = start_postgres(Path(folder) / "postgres")
        try:
            asyncio.run(migrate(url))
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(PROBE_TABLE)
            yield url
        finally:
            postgres.stop()


def request(number: int) -> bytes:
    """A webhook with one item that was never sent before, signed."""
    item = {
        "amount": {"currency": "EUR", "value": 1999},
        "eventCode": "CAPTURE",
        "eventDate": "2026-01-01T12:00:00+00:00",
        "merchantAccountCode": "PlazaTest",
        "merchantReference": f"{id_text(number)}-capture-1",
        "originalReference": f"PSP{number}",
        "paymentMethod": "visa",
        "pspReference": f"CAP{number}",
        "reason": "",
        "success": "true",
    }
    body = msgspec.json.encode(envelope([signed(item, HMAC_KEY)]))
    head = (
        "POST /api/webhooks/adyen HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Sender(asyncio.Protocol):
    """Sends one after the other, each when the last is accepted."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self._received = b""
        self.accepted = 0
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        # An answer's head and body may come in two pieces.
        self._received += data
        if not self._received.endswith(b"[accepted]"):
            return
        assert self._received.startswith(b"HTTP/1.1 200"), self._received
        self._received = b""
        self.accepted += 1
        if not self.stopped:
            self._transport.write(next(self._requests))


async def accepted(port: int) -> float:
    prepared = [request(next(_numbers)) for _ in range(REQUESTS_MAX)]
    requests = itertools.chain(prepared, (request(next(_numbers)) for _ in itertools.count()))
    senders = [Sender(requests) for _ in range(CONNECTIONS)]
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    for sender in senders:
        await loop.create_connection(lambda sender=sender: sender, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.sleep(ROUND_SECONDS)
    rate = sum(sender.accepted for sender in senders) / (time.perf_counter() - began)
    for sender in senders:
        sender.stopped = True
    await asyncio.sleep(0.3)
    return rate
