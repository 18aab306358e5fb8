"""The firehose: public events only, each once, from wherever a client was, and no slow client."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette

from domain.commerce.product.events import ProductListed
from domain.events import AnyEvent
from domain.shared.message import tag_of
from infra.adapters.log.event_log import PostgresEventLog
from infra.formats.codec import Line, personal_fields
from infra.http.problems import Problem
from infra.http.server import serve
from infra.runtime.frames.frames import LogLines
from query_api import firehose as module
from query_api.firehose import PUBLIC, TAGS, Firehose, routes
from tests.builders import NOON
from tests.contract.record_events import sample
from tests.integration.tables import random_log
from tests.square import Square

COUNT = 1_500


class Client:
    """Reads the events of one connection."""

    def __init__(self, answer: httpx.Response) -> None:
        self.comments: list[str] = []
        self.last_id = ""
        self._lines = answer.aiter_lines()

    async def next(self, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while len(found) < count:
            line = await anext(self._lines)
            field, _, value = line.partition(": ")
            if field == "id":
                self.last_id = value
            elif field == "data":
                found.append(json.loads(value))
                assert found[-1]["position"] == int(self.last_id)
            elif line.startswith(":"):
                self.comments.append(value)
        return found


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[int, Firehose]]:
    log = await PostgresEventLog.open(url)
    try:
        async with serving(log) as served:
            yield served
    finally:
        await log.close()


@contextlib.asynccontextmanager
async def serving(log: LogLines) -> AsyncIterator[tuple[int, Firehose]]:
    firehose = Firehose(log)
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    app = Starlette(routes=routes(firehose))
    server = asyncio.create_task(serve(app, "127.0.0.1", 0, port.set_result, firehose.end))
    try:
        yield await port, firehose
    finally:
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)


@contextlib.asynccontextmanager
async def connected(
    port: int, last_id: str | None = None, **parameters: Any
) -> AsyncIterator[Client]:
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    async with (
        httpx.AsyncClient(timeout=10) as http,
        http.stream(
            "GET", f"http://127.0.0.1:{port}/api/firehose", params=parameters, headers=headers
        ) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Client(answer)


async def test_every_public_event_comes_once_and_in_order(postgres_url: str) -> None:
    events = await random_log(postgres_url, 101, COUNT)
    expected = [one.position for one in events if type(one.event) in PUBLIC]
    async with opened(postgres_url) as (port, _):
        async with connected(port, after=0) as client:
            first = await client.next(len(expected) // 2)
            last_id = client.last_id
        async with connected(port, last_id) as client:
            rest = await client.next(len(expected) - len(first))
        async with connected(port, after=0, types="follow.started.v1,post.deleted.v1") as client:
            chosen = await client.next(20)
    assert [one["position"] for one in (*first, *rest)] == expected
    assert {one["type"] for one in chosen} <= {"follow.started.v1", "post.deleted.v1"}
    assert all(one["schemaVersion"] == int(one["type"][-1]) for one in (*first, *rest))


async def test_new_events_come_as_they_happen(postgres_url: str) -> None:
    square = await Square.open(postgres_url)
    ada = await square.member("ada")
    async with opened(postgres_url) as (port, _), connected(port) as client:
        await asyncio.sleep(0.2)
        post_id = await square.post(ada, "told in public, but not here")
        async with asyncio.timeout(5):
            (event,) = await client.next(1)
    await square.close()
    assert (event["type"], event["data"]["postId"]) == ("post.published.v1", post_id)
    assert "content" not in event["data"]


class Canned:
    """A log of given rows."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines

    async def read_lines(self, after: int, limit: int) -> Sequence[Line]:
        return [line for line in self._lines if line.position > after][:limit]

    async def head(self) -> int:
        return self._lines[-1].position

    async def wait(self, _after: int, seconds: float) -> bool:
        await asyncio.sleep(seconds)
        return False


def kinds() -> list[type]:
    return sorted(getattr(AnyEvent, "__args__", ()), key=tag_of)


@pytest.mark.parametrize("kind", kinds(), ids=tag_of)
async def test_nothing_personal_or_private_is_sent(kind: Any) -> None:
    state = msgspec.msgpack.encode(("2026-01-01T00:00:00Z", "request", "request", sample(kind)))
    firehose = Firehose(Canned([Line(1, "stream", 1, state)]))
    batch = await firehose._read(0)
    if kind not in PUBLIC:
        assert batch.frames == []
        return
    ((_, frame),) = batch.frames
    for name in (*personal_fields(kind), "username_key"):
        assert name.encode() not in frame
        assert f"sealed {name}".encode() not in frame
    assert b"request" not in frame


async def test_a_quiet_stream_tells_that_it_is_there_and_where(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.1)
    await random_log(postgres_url, 102, 50)
    async with opened(postgres_url) as (port, _), connected(port) as client:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await client.next(1)
    assert "still here" in client.comments
    assert client.last_id == "50"


async def test_a_client_that_does_not_read_is_cut_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.5)
    # More than what the sockets between us can hold.
    listed = msgspec.structs.replace(sample(ProductListed), category="x" * 200_000)
    state = msgspec.msgpack.encode((NOON, "", "", listed))
    log = Canned([Line(position, "product:p", position, state) for position in range(1, 201)])
    async with serving(log) as (port, firehose):
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            slow.connect(("127.0.0.1", port))
            slow.sendall(b"GET /api/firehose?after=0 HTTP/1.1\r\nHost: plaza\r\n\r\n")
            async with connected(port, after=0) as client:
                found = await client.next(200)
            async with asyncio.timeout(20):
                while firehose._clients:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
    assert [one["position"] for one in found] == list(range(1, 201))


async def test_streams_end_when_the_service_does(postgres_url: str) -> None:
    await random_log(postgres_url, 104, 10)
    async with opened(postgres_url) as (port, firehose), connected(port) as client:
        firehose.end()
        with pytest.raises(StopAsyncIteration):
            await client.next(1)


@pytest.mark.parametrize(
    "query", ["after=x", "after=-1", "types=order.created.v2", "types=nothing", "after="]
)
async def test_what_makes_no_sense_is_refused(query: str) -> None:
    firehose = Firehose(Canned([]))
    (route,) = routes(firehose)
    transport = httpx.ASGITransport(Starlette(routes=[route]), raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://plaza") as http:
        with pytest.raises(Problem, match="422"):
            await http.get(f"/api/firehose?{query}")


async def test_there_are_not_too_many_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLIENTS_MAX", 0)
    with pytest.raises(Problem, match="503"):
        Firehose(Canned([])).admit()
    assert "order.created.v2" not in TAGS
