"""Where a process without a service of its own serves what it measures: /metrics and /applied."""

import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from infra.runtime.projecting.applied_history import AppliedHistory

REQUEST_SECONDS = 5.0
POSITION_DIGITS_MAX = 19


class Handler(BaseHTTPRequestHandler):
    """`GET /metrics`, and with a history `GET /applied?partition=P&position=N`."""

    timeout = REQUEST_SECONDS

    def __init__(
        self, registry: CollectorRegistry, history: AppliedHistory | None, *rest: Any
    ) -> None:
        self._registry, self._history = registry, history
        super().__init__(*rest)

    def do_GET(self) -> None:
        """Answer a request; the name is how the standard library finds it."""
        url = urlsplit(self.path)
        if url.path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, generate_latest(self._registry))
        elif url.path == "/applied" and self._history is not None:
            asked = parse_qs(url.query)
            partition, position = (number(asked, name) for name in ("partition", "position"))
            if partition is None or position is None:
                self._answer(422, "text/plain", b"partition and position are whole numbers\n")
                return
            found = self._history.when(partition, position)
            self._answer(200, "application/json", msgspec.json.encode(found))
        else:
            self._answer(404, "text/plain", b"there are /metrics and /applied\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Who scrapes does so for ever: that is not worth a line each time."""

    def _answer(self, status: int, media_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of what went wrong here, not of whoever hung up before the answer was written."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def number(asked: dict[str, list[str]], name: str) -> int | None:
    text = asked.get(name, [""])[-1]
    return int(text) if text.isdecimal() and len(text) <= POSITION_DIGITS_MAX else None


def serve_metrics(
    port: int,
    host: str,
    registry: CollectorRegistry,
    history: AppliedHistory | None = None,
) -> ThreadingHTTPServer:
    """Serve until the process ends, beside whatever it does; with port 0 on a free one."""
    server = Server((host, port), partial(Handler, registry, history))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
