"""The outermost layer of a service, plain ASGI: hot routes, request ids, metrics, CORS and 500s.

FACTS: a `BaseHTTPMiddleware` costs 170 microseconds a request, a plain ASGI layer one; Starlette's
routing costs 28, so the busiest endpoints are answered here, before it.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Protocol
from urllib.parse import urlsplit

import structlog
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.http.bodies import ClientGone
from infra.http.correlation import SCOPE_KEY, request_id_of
from infra.http.exchange import WHOLE, Exchange, Whole
from infra.http.metrics import RequestMetrics
from infra.http.problems import MEDIA_TYPE, Problem, problem_of, unaddressed, unavailable
from infra.http.whole_pages import WholePages

HEADERS_KEY = "plaza.headers"
"""Where the scope holds the request's headers as a dictionary."""

UNMATCHED = "unmatched"
ANY_METHOD = "any"
"""Metrics must not grow with what clients make up."""

REPEATED = "repeated"
"""A refusal that was stored under an idempotency key, answered again."""

LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}
EXPOSED = b"Log-Position, Retry-After, X-Request-Id, Location"
ALLOWED = b"Authorization, Content-Type, Idempotency-Key, Log-Position, X-Request-Id, traceparent"
PREFLIGHT_SECONDS = b"600"
JSON_HEADERS = b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n"

Headers = list[tuple[bytes, bytes]]


class Origins:
    """Which web pages may call this service from a browser: those of this machine, and a list."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._allowed = set(allowed)

    def allow(self, origin: str) -> bool:
        if "*" in self._allowed or origin in self._allowed:
            return True
        try:
            return urlsplit(origin).hostname in LOCAL_HOSTS
        except ValueError:
            return False


class Begun:
    """A request that an endpoint has begun to answer without a task."""

    __slots__ = ("_entrance", "_exchange", "_scope", "_started", "headers", "query_string")

    def __init__(
        self, entrance: "Entrance", scope: Scope, exchange: Exchange, headers: Mapping[bytes, bytes]
    ) -> None:
        self._entrance = entrance
        self._exchange = exchange
        self._scope = scope
        self._started = time.perf_counter()
        self.headers = headers
        self.query_string: bytes = scope["query_string"]

    def answer(self, body: bytes) -> None:
        """Answer 200 with JSON."""
        request_id = request_id_of(self.headers).encode()
        self._exchange.answer(200, JSON_HEADERS % (len(body), request_id), body)
        self._entrance.account(self._scope, 200, None, time.perf_counter() - self._started)

    def leave(self) -> None:
        """Have the endpoint answer in the ordinary way after all."""
        self._exchange.leave()


class Beginner(Protocol):
    """An endpoint that answers most requests without a task: it begins, and goes on when told."""

    def begin(self, begun: Begun) -> bool:
        """Begin to answer; False, or any refusal raised, leaves it to the ordinary way."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> None: ...


class Sender:
    """Sends an answer with our headers; one of a known length in one piece, where the server can.

    `started`: something of it has been sent. `status` is 0 until it is known.
    """

    __slots__ = ("_extra", "_held", "_send", "_whole", "started", "status")

    def __init__(self, scope: Scope, send: Send, extra: Headers) -> None:
        self._send = send
        self._extra = extra
        self._held: Message | None = None
        extensions = scope.get("extensions")
        self._whole: Whole | None = None
        if extensions is not None and scope["method"] != "HEAD":
            self._whole = extensions.get(WHOLE)
        self.started = False
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"] = [*message.get("headers", ()), *self._extra]
            if self._whole is not None and is_whole(self.status, headers):
                self._held = message
                return
        held = self._held
        if held is not None:
            self._held = None
            if self._whole is not None and not message.get("more_body"):
                body = message.get("body", b"")
                if self._whole(held["status"], header_lines(held["headers"]), body):
                    self.started = True
                    return
            await self._send(held)
        self.started = True
        await self._send(message)


def is_whole(status: int, headers: Headers) -> bool:
    """Whether an answer can be sent in one piece. What has no length is a stream, whose head its
    reader waits for; and how a connection ends is the server's business."""
    names = [name for name, _ in headers]
    return b"connection" not in names and (status == 204 or b"content-length" in names)


def header_lines(headers: Headers) -> bytes:
    """Headers as they are sent. Raises `ValueError` for one that would end its line early."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if not lines.count(b"\n") == lines.count(b"\r") == len(headers):
        raise ValueError("a header holds the end of a line")
    return lines


class Entrance:
    """A whole service as one ASGI application: all its routes, and what they have in common.

    `hot` names the endpoints, by method and path, that are found without Starlette's routing; in
    `hot_below` the path's last part is a parameter, which is named too; `beginners` are begun
    without a task. They are among the routes. `pages` keeps those whole that are read meanwhile.
    Whatever an endpoint raises is answered here as a problem document; what nobody foresaw is
    logged with its trace and answered as a 500.
    """

    def __init__(  # noqa: PLR0913
        self,
        routes: Sequence[BaseRoute],
        *,
        metrics: RequestMetrics,
        log: structlog.typing.FilteringBoundLogger,
        origins: Origins,
        hot: Mapping[tuple[str, str], ASGIApp] | None = None,
        hot_below: Mapping[tuple[str, str], tuple[ASGIApp, str]] | None = None,
        beginners: Mapping[tuple[str, str], Beginner] | None = None,
        pages: WholePages | None = None,
    ) -> None:
        self._router = Router(routes, redirect_slashes=False)
        self._beginners = dict(beginners or {})
        self._hot: dict[tuple[str, str], ASGIApp] = {**(hot or {}), **self._beginners}
        self._hot_below = dict(hot_below or {})
        self._names = {id(r.endpoint): r.path for r in routes if isinstance(r, Route)}
        self._metrics = metrics
        self._log = log
        self._origins = origins
        self._pages = pages

    @property
    def routes(self) -> Sequence[BaseRoute]:
        return self._router.routes

    def begin(self, scope: Scope, exchange: Exchange) -> bool:
        """Begin to answer a request without a task; see `infra.http.server.BoundedProtocol`."""
        endpoint = self._beginners.get((scope["method"], scope["path"]))
        if endpoint is None:
            return False
        headers = dict(scope["headers"])
        # What browsers ask from other pages is answered with headers that are made elsewhere.
        if b"origin" in headers or not names_host(scope, headers):
            return False
        scope["endpoint"] = endpoint
        try:
            return endpoint.begin(Begun(self, scope, exchange, headers))
        except Problem:
            # It is found again, and answered, in the ordinary way.
            return False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        started = time.perf_counter()
        headers = scope[HEADERS_KEY] = dict(scope["headers"])
        request_id = scope[SCOPE_KEY] = request_id_of(headers)
        extra: Headers = [(b"x-request-id", request_id.encode())]
        if b"origin" in headers:
            extra += self._cross_origin(headers[b"origin"])
        answer = Sender(scope, send, extra)
        sender = answer.send
        problem = None
        try:
            chosen = self._choose(scope)
            if self._pages is None:
                await chosen(scope, receive, sender)
            else:
                await self._pages.answer(chosen, scope, receive, sender)
        except ClientGone:
            return
        except asyncio.CancelledError:
            # The service is being stopped and waits no longer. What was asked for may yet be done.
            if answer.started:
                raise
            problem = unavailable("The service is being stopped.")
            await send_problem(problem, sender)
        except Exception as error:
            # Whatever it was: the caller is answered, and we have the trace.
            problem = self._problem(scope, error)
            if answer.started:
                raise
            await send_problem(problem, sender)
        self.account(scope, answer.status, problem, time.perf_counter() - started)

    def _choose(self, scope: Scope) -> ASGIApp:
        if not names_host(scope, scope[HEADERS_KEY]):
            raise unaddressed()
        hot = self._hot.get((scope["method"], scope["path"]))
        if hot is not None:
            scope["endpoint"] = hot
            return hot
        if self._hot_below:
            above, _, name = scope["path"].rpartition("/")
            below = self._hot_below.get((scope["method"], above))
            if below is not None and name:
                scope["endpoint"], parameter = below
                scope["path_params"] = {parameter: name}
                return below[0]
        if is_preflight(scope):
            return preflight
        # With an application in the scope, Starlette raises where nothing matches; else it answers
        # for itself, in plain text.
        scope["app"] = self
        return self._router

    def _problem(self, scope: Scope, error: Exception) -> Problem:
        problem = problem_of(error)
        if problem.status == 405:
            problem.headers["Allow"] = ", ".join(self._methods_at(scope))
        if problem.status == 500:
            request_id, path = scope[SCOPE_KEY], scope["path"]
            self._log.exception("request.failed", request_id=request_id, path=path)
        return problem

    def _methods_at(self, scope: Scope) -> list[str]:
        """All methods of an address: Starlette names only those of the first route that fits."""
        fitting = (r for r in self._router.routes if r.matches(scope)[0] is not Match.NONE)
        return sorted({method for r in fitting for method in getattr(r, "methods", None) or ()})

    def account(self, scope: Scope, status: int, problem: Problem | None, seconds: float) -> None:
        method = scope["method"]
        route = self._names.get(id(scope.get("endpoint")), UNMATCHED)
        if route is UNMATCHED:
            method = ANY_METHOD
        self._metrics.observe(method, route, status, seconds)
        if status >= 400:
            kind = problem.kind if problem else REPEATED
            self._metrics.refused(kind)
            self._log.info(
                "request.refused",
                request_id=scope[SCOPE_KEY],
                method=method,
                route=route,
                status=status,
                problem=kind,
                milliseconds=round(seconds * 1000, 1),
            )

    def _cross_origin(self, origin: bytes) -> Headers:
        if not self._origins.allow(origin.decode("latin-1")):
            return []
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED),
            (b"vary", b"Origin"),
        ]


def names_host(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request says once for which host it is, as RFC 9112 asks of all but HTTP/1.0."""
    if b"host" in headers:
        lines = scope["headers"]
        return len(headers) == len(lines) or sum(name == b"host" for name, _ in lines) == 1
    return bool(scope["http_version"] == "1.0")


def is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and b"access-control-request-method" in scope[HEADERS_KEY]


async def preflight(_scope: Scope, _receive: Receive, send: Send) -> None:
    """A browser asks whether it may call; whether it may is in the headers every answer has."""
    headers = [
        (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
        (b"access-control-allow-headers", ALLOWED),
        (b"access-control-max-age", PREFLIGHT_SECONDS),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def send_problem(problem: Problem, send: Send) -> None:
    """Answer an ASGI request with a problem document."""
    body = problem.body()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
