"""Traces without a stored trace: every id is computed from what the log holds anyway.

A request's correlation id is its trace. Where it came as a `traceparent` it is the very trace id;
any other id is hashed into one. Spans of events are named by their position, and those of what
applied them by that and its name: so each process can name its own span, and the one above it,
without having heard of the other. Only a request's own span is named by chance. Which traces are
exported is decided by the trace id alone, so that all processes decide alike.
"""

import random
import re
from collections.abc import Mapping
from contextvars import ContextVar
from hashlib import blake2b
from typing import Literal, NamedTuple, Protocol

from infra.ports.log import Recorded

_is_trace_id = re.compile(r"[0-9a-f]{32}").fullmatch
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?"
)
CHANCE_BITS = 56
"""The last bits of a trace id that W3C asks to be random."""

Kind = Literal["server", "client", "internal"]

REQUEST: ContextVar[int | None] = ContextVar("request_span", default=None)
"""The span of the request that this task answers, where traces are exported."""


class Parent(NamedTuple):
    """What a `traceparent` names: the trace, and the caller's span."""

    trace_id: str
    span_id: int


class Span(NamedTuple):
    """Something that was done for a request. `began` is in seconds since 1970."""

    name: str
    kind: Kind
    trace: int
    span: int
    parent: int | None
    began: float
    seconds: float
    attributes: Mapping[str, str | int]
    failed: bool = False


class Spans(Protocol):
    """Takes spans to be exported; never waits, and drops what is too much."""

    def wants(self, trace: int) -> bool:
        """Whether spans of this trace are exported at all."""
        ...

    def add(self, span: Span) -> None: ...


def parent_of(traceparent: bytes | None) -> Parent | None:
    """What the header says; None where there is none, or it is not what W3C asks for."""
    if traceparent is None:
        return None
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or (traceparent[:2] == b"00" and found[3] is not None):
        return None
    return Parent(found[1].decode(), int(found[2], 16))


def trace_of(correlation_id: str) -> int:
    """The trace id of a request."""
    if _is_trace_id(correlation_id) and (trace := int(correlation_id, 16)):
        return trace
    return int.from_bytes(blake2b(correlation_id.encode(), digest_size=16).digest()) or 1


def span_of(correlation_id: str, *what: str | int) -> int:
    """The id of the span of something that was done for a request."""
    named = "\0".join([correlation_id, *map(str, what)])
    return int.from_bytes(blake2b(named.encode(), digest_size=8).digest()) or 1


def new_span() -> int:
    return random.getrandbits(64) or 1


def event_span(correlation_id: str, position: int) -> int:
    return span_of(correlation_id, "event", position)


def above_event(recorded: Recorded) -> int | None:
    """The span of what caused an event: another event, or the request that is being answered."""
    cause, correlation = recorded.causation_id, recorded.correlation_id
    # A request's own events have its id for both.
    if cause != correlation and cause.isascii() and cause.isdigit():
        return event_span(correlation, int(cause))
    return REQUEST.get()


def is_chosen(trace: int, share: float) -> bool:
    """Whether a trace is among the share of all that is exported."""
    return (trace & ((1 << CHANCE_BITS) - 1)) < share * (1 << CHANCE_BITS)
