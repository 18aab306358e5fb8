"""Requests that an application answers without a task, over real connections."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from starlette.types import Receive, Scope, Send

from infra.http.exchange import Exchange
from infra.http.server import serve

HEADERS = b"content-type: text/plain\r\ncontent-length: %d\r\n"


class App:
    """Answers by exchange what it is told to, a moment later; what it leaves, by its task."""

    def __init__(self) -> None:
        self.tasks = 0
        self.begun: list[str] = []
        self.began = asyncio.Event()
        self.seconds = 0.01
        self.then: Callable[[Exchange, bytes], None] = answer

    def begin(self, scope: Scope, exchange: Exchange) -> bool:
        if scope["path"].startswith("/ordinary"):
            return False
        self.begun.append(scope["path"])
        self.began.set()
        loop = asyncio.get_running_loop()
        loop.call_later(self.seconds, self.then, exchange, scope["path"].encode())
        return True

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.tasks += 1
        body = b"task " + scope["path"].encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def answer(exchange: Exchange, body: bytes) -> None:
    exchange.answer(200, HEADERS % len(body), body)


def leave(exchange: Exchange, _body: bytes) -> None:
    exchange.leave()


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[bytes, bytes]:
        async with asyncio.timeout(5):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return head, await self.reader.readexactly(length)

    async def ask(self, path: str, *headers: str) -> tuple[bytes, bytes]:
        self.write(path, *headers)
        return await self.answer()

    def write(self, path: str, *headers: str) -> None:
        lines = "".join(f"{line}\r\n" for line in ("Host: plaza", *headers))
        self.writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
async def server(app: App) -> AsyncIterator[tuple[int, asyncio.Task[None]]]:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(app, "127.0.0.1", 0, port.set_result))
    yield await port, serving
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
async def connection(server: tuple[int, asyncio.Task[None]]) -> AsyncIterator[Connection]:
    made = Connection(*await asyncio.open_connection("127.0.0.1", server[0]))
    yield made
    made.writer.close()
    await made.writer.wait_closed()


async def test_an_exchange_answers_with_the_headers_that_all_answers_have(
    app: App, connection: Connection
) -> None:
    for path in ("/one", "/two"):
        head, body = await connection.ask(path)
        assert head.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
        assert body == path.encode()
    assert app.tasks == 0


async def test_what_is_left_is_answered_by_the_application(
    app: App, connection: Connection
) -> None:
    assert (await connection.ask("/ordinary"))[1] == b"task /ordinary"
    app.then = leave
    assert (await connection.ask("/left"))[1] == b"task /left"
    assert app.begun == ["/left"]


async def test_pipelined_requests_are_answered_in_order(app: App, connection: Connection) -> None:
    paths = ["/1", "/ordinary/2", "/3", "/4"]
    for path in paths:
        connection.write(path)
    bodies = [(await connection.answer())[1] for _ in paths]
    assert bodies == [b"/1", b"task /ordinary/2", b"/3", b"/4"]
    assert app.tasks == 1


async def test_a_connection_that_is_to_be_closed_is_the_application_s(
    app: App, connection: Connection
) -> None:
    head, body = await connection.ask("/last", "Connection: close")
    assert b"connection: close" in head.lower()
    assert body == b"task /last"
    assert await connection.reader.read() == b""
    assert app.begun == []


async def test_a_server_that_is_stopped_answers_what_has_begun(
    app: App, server: tuple[int, asyncio.Task[None]], connection: Connection
) -> None:
    app.seconds = 0.5
    connection.write("/begun")
    await app.began.wait()
    server[1].cancel()
    head, body = await connection.answer()
    assert body == b"task /begun"
    assert b"connection: close" in head.lower()
    assert await connection.reader.read() == b""


async def test_answers_do_not_pile_up_behind_a_client_that_does_not_read(
    app: App, connection: Connection
) -> None:
    app.then = lambda exchange, path: answer(exchange, path * 100_000)
    count = 60
    for number in range(count):
        connection.write(f"/{number:03}")
    await asyncio.sleep(0.5)
    assert len(app.begun) < count
    for number in range(count):
        assert (await connection.answer())[1] in {
            b"/%03d" % number * 100_000,
            b"task /%03d" % number,
        }
