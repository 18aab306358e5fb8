"""A TCP proxy before a server that loses connections at the worst moments."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Forwards both ways, until told otherwise.

    `request_lost` and `answer_lost` are asked about each request of a client: a lost request does
    not reach the server (or only `late_seconds` after its client is cut off), a lost answer means
    that the server is left to do what it was asked. While `held` is clear, requests wait;
    `arrived` counts what came of them, held or not.
    """

    def __init__(self, postgres_url: str) -> None:
        self._target = urlsplit(postgres_url)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._late: set[asyncio.StreamWriter] = set()
        self.request_lost: Callable[[bytes], bool] = lambda _: False
        self.answer_lost: Callable[[bytes], bool] = lambda _: False
        self.late_seconds = 0.0
        self.arrived = 0
        self.held = asyncio.Event()
        self.held.set()

    @property
    def url(self) -> str:
        user = self._target.netloc.rpartition("@")[0]
        return urlunsplit(self._target._replace(netloc=f"{user}@127.0.0.1:{self._port}"))

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuse new connections and end those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for late in self._late:
            late.transport.abort()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:
            writer.transport.abort()
            return
        # Kept here: a task that is cancelled before its first step closes nothing.
        self._writers.add(writer)
        self._keep(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            host, port = self._target.hostname, self._target.port
            from_server, to_server = await asyncio.open_connection(host, port)
            self._writers.add(to_server)
            try:
                await self._forward(reader, writer, from_server, to_server)
            finally:
                self._writers.discard(to_server)
                if to_server not in self._late:
                    to_server.transport.abort()
        except OSError:
            # The server is away: its client finds the same here.
            return
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        """Both ways, until one end is closed or something is to be lost."""
        lost = asyncio.Event()
        requests = asyncio.create_task(self._requests(reader, to_server, lost))
        answers = asyncio.create_task(self._answers(from_server, writer, lost))
        try:
            await asyncio.wait([requests, answers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (requests, answers):
                task.cancel()
            await asyncio.gather(requests, answers, return_exceptions=True)

    async def _requests(
        self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter, lost: asyncio.Event
    ) -> None:
        while data := await reader.read(1 << 20):
            self.arrived += 1
            await self.held.wait()
            if self.request_lost(data):
                if self.late_seconds:
                    self._late.add(to_server)
                    self._keep(self._deliver_late(data, to_server))
                return
            if self.answer_lost(data):
                lost.set()
            to_server.write(data)
            await to_server.drain()

    async def _deliver_late(self, data: bytes, to_server: asyncio.StreamWriter) -> None:
        try:
            await asyncio.sleep(self.late_seconds)
            to_server.write(data)
            await to_server.drain()
            await asyncio.sleep(1)
        finally:
            to_server.transport.abort()

    async def _answers(
        self, from_server: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event
    ) -> None:
        while data := await from_server.read(1 << 20):
            if lost.is_set():
                return
            writer.write(data)
            await writer.drain()

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@asynccontextmanager
async def proxied(postgres_url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(postgres_url)
    await proxy.open()
    try:
        yield proxy
    finally:
        with contextlib.suppress(OSError):
            await proxy.close()
