"""An entrance that also tells what it answered as spans: used only where traces are exported."""

import time
from typing import Any

from starlette.types import Receive, Scope, Send

from infra.http.correlation import SCOPE_KEY, request_id_of
from infra.http.entrance import ANY_METHOD, HEADERS_KEY, UNMATCHED, Entrance
from infra.http.problems import Problem
from infra.tracing import REQUEST, Span, Spans, new_span, parent_of, trace_of

SPAN_KEY = "plaza.span"
GIVEN = (b"traceparent", b"x-request-id")


class TracedEntrance(Entrance):
    """A request is traced under its id. Pages that are answered without a task have none unless
    their reader gave one: those without are not traced."""

    def __init__(self, *rest: Any, spans: Spans, **named: Any) -> None:
        super().__init__(*rest, **named)
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        span = scope[SPAN_KEY] = new_span()
        # A request has a task of its own, so that this holds for nothing else.
        REQUEST.set(span)
        await super().__call__(scope, receive, send)

    def account(self, scope: Scope, status: int, problem: Problem | None, seconds: float) -> None:
        super().account(scope, status, problem, seconds)
        headers = scope.get(HEADERS_KEY) or dict(scope["headers"])
        correlation_id = scope.get(SCOPE_KEY)
        if correlation_id is None and any(name in headers for name in GIVEN):
            correlation_id = request_id_of(headers)
        if correlation_id is None or not self._spans.wants(trace := trace_of(correlation_id)):
            return
        route = self._names.get(id(scope.get("endpoint")), UNMATCHED)
        parent = parent_of(headers.get(b"traceparent"))
        self._spans.add(
            Span(
                name=f"{ANY_METHOD if route is UNMATCHED else scope['method']} {route}",
                kind="server",
                trace=trace,
                span=scope.get(SPAN_KEY) or new_span(),
                parent=None if parent is None else parent.span_id,
                began=time.time() - seconds,
                seconds=seconds,
                attributes={
                    "http.request.method": scope["method"],
                    "http.route": route,
                    "http.response.status_code": status,
                },
                failed=status >= 500,
            )
        )
