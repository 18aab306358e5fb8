"""The HTTP server both services run on: uvicorn with bounds on how slowly a request may arrive.

uvicorn waits without end for the rest of a request that has begun, and for the first one of a new
connection; and what it cannot parse it answers as plain text.
"""

import asyncio
import contextlib
import gc
import socket
from asyncio.events import TimerHandle
from collections.abc import Callable, Iterator
from typing import Any, cast

from starlette.types import ASGIApp, Scope
from uvicorn import Config, Server
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from infra.http.exchange import WHOLE, Exchange
from infra.http.problems import MEDIA_TYPE, Problem

IDLE_SECONDS = 30
ARRIVAL_SECONDS = 30
DRAIN_SECONDS = 15
BACKLOG = 2048
HEAD_BYTES_MAX = 64 * 1024

Begin = Callable[[Scope, Exchange], bool]

NOT_HTTP = Problem(400, "malformed-request", "The request is not HTTP")
HEAD_TOO_LARGE = Problem(431, "headers-too-large", "The headers of the request are too large")


class OpenRequest:
    """One request that is not answered yet; see `infra.http.exchange`."""

    __slots__ = ("_app", "_cycle", "_protocol")

    def __init__(
        self, protocol: "BoundedProtocol", cycle: RequestResponseCycle, app: ASGI3Application
    ) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._app = app

    def whole(self, status: int, headers: bytes, body: bytes) -> bool:
        cycle, protocol = self._cycle, self._protocol
        if cycle.disconnected:
            return True
        # uvicorn's messages wait for a client that does not read, and know how connections end.
        if protocol.flow.write_paused or not cycle.keep_alive:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(b"%b%b\r\n%b" % (protocol.head(status), headers, body))
        cycle.message_event.set()
        protocol.on_response_complete()
        return True

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        if not self.whole(status, headers, body):
            self.leave()

    def leave(self) -> None:
        self._protocol.start_task(self._cycle, self._app)


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not arrive in time, or whose headers do not end.

    An application may have a method `begin(scope, exchange)`, which is called before a task is
    made for a request: where it answers True it will answer the request by its exchange.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begin: Begin | None = getattr(self.config.app, "begin", None)
        self._defaults: object = None
        self._heads: dict[int, bytes] = {}
        self._head_bytes = 0
        self._arrival: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle = self.cycle
        in_head = cycle is None or cycle.scope is not self.scope
        # Most requests come in one piece, so a timer is made only for those that did not.
        if not in_head and not cycle.more_body:
            if self._arrival is not None:
                self._arrived()
            return
        if self.transport.get_protocol() is not self:
            return  # It is a WebSocket's from now on.
        if self._arrival is None:
            self._arrival = self.loop.call_later(ARRIVAL_SECONDS, self.transport.close)
        self._head_bytes = self._head_bytes + len(data) if in_head else 0
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(HEAD_TOO_LARGE)

    def head(self, status: int) -> bytes:
        """The status line, and the headers that all answers have."""
        defaults = self.server_state.default_headers
        # They are made anew every second, for the date.
        if defaults is not self._defaults:
            self._defaults = defaults
            self._heads.clear()
        found = self._heads.get(status)
        if found is None:
            lines = b"".join([b"%b: %b\r\n" % line for line in defaults])
            found = self._heads[status] = STATUS_LINE[status] + lines
        return found

    def start_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        super()._start_asgi_task(cycle, app)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        exchange = OpenRequest(self, cycle, app)
        scope = cast(Scope, cycle.scope)
        scope["extensions"] = {WHOLE: exchange.whole}
        if self._begin is None or not cycle.keep_alive or not self._begin(scope, exchange):
            super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        del msg  # It says the same of every request.
        self._refuse(NOT_HTTP)

    def _refuse(self, problem: Problem) -> None:
        body = problem.body()
        head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        head += "connection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[problem.status] + head.encode() + body)
        self.transport.close()

    def _arrived(self) -> None:
        self._head_bytes = 0
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None


class SignalFreeServer(Server):
    """Leaves signals to whoever runs the process: uvicorn would end it before it is cleaned up."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def collect_garbage_rarely() -> None:
    """Look for garbage less often, and never again at what has been loaded by now.

    What a request makes is freed by its reference counts; the collector's rounds over all that a
    service remembers took every tenth request past 50 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    on_ready: Callable[[int], None] | None = None,
    on_end: Callable[[], None] = lambda: None,
) -> None:
    """Serve until cancelled; requests that have arrived by then are still answered.

    `on_ready` is told the port: with port 0 a free one is taken. `on_end` is called when it is
    cancelled, to finish answers that would go on without end.
    Raises `OSError` where the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    config = Config(
        app,
        http=BoundedProtocol,
        loop="none",
        lifespan="off",
        access_log=False,
        proxy_headers=False,
        log_config=None,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = SignalFreeServer(config)
    collect_garbage_rarely()
    serving = asyncio.create_task(server.serve([listener]))
    if on_ready is not None:
        # The socket listens already; who connects now is answered in a moment.
        on_ready(listener.getsockname()[1])
    try:
        await asyncio.shield(serving)
    finally:
        on_end()
        server.should_exit = True
        await serving
