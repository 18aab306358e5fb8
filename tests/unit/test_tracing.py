"""Trace context is taken in as W3C says, and ids of spans are the same whoever computes them."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from domain.social.post.events import PostPublished
from infra.composition.operations.tracing_path import told
from infra.http.correlation import request_id_of
from infra.ports.log import Recorded
from infra.runtime.projecting.applied_history import AppliedAt
from infra.tracing import (
    REQUEST,
    Parent,
    above_event,
    event_span,
    is_chosen,
    parent_of,
    span_of,
    trace_of,
)
from tests.histories import History

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_an_index_is_a_step_of_those_events_only_that_it_shows() -> None:
    post = next(one for one in History(seed=3).events(40) if isinstance(one.event, PostPublished))
    times = [AppliedAt(name, at=NOON.timestamp()) for name in ("tables", "search_posts")]
    other = AppliedAt("search_products", at=NOON.timestamp())
    found = told(post, [*times, other], None)
    assert [one["what"] for one in found["steps"]] == ["tables", "search_posts"]


def test_a_traceparent_names_a_trace_and_a_span() -> None:
    assert parent_of(GOOD.encode()) == Parent(TRACE, int(SPAN, 16))
    # A later version may say more.
    assert parent_of(f"01-{TRACE}-{SPAN}-01-more".encode()) == Parent(TRACE, int(SPAN, 16))


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "00",
        TRACE,
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-zz",
        "\xff" * 55,
    ],
)
def test_what_is_malformed_counts_as_not_given(malformed: str) -> None:
    header = malformed.encode("latin-1")
    assert parent_of(header) is None
    assert request_id_of({b"traceparent": header, b"x-request-id": b"mine"}) == "mine"
    made = request_id_of({b"traceparent": header})
    assert made != request_id_of({b"traceparent": header})
    assert trace_of(made) == int(made, 16)


def test_a_trace_goes_before_the_request_id_of_a_proxy() -> None:
    assert request_id_of({b"traceparent": GOOD.encode(), b"x-request-id": b"a-proxy-s"}) == TRACE


def test_any_request_id_is_a_trace_and_always_the_same() -> None:
    assert trace_of(TRACE) == int(TRACE, 16)
    for text in ("mine", "", "0" * 32, TRACE.upper()):
        assert 0 < trace_of(text) < 1 << 128
        assert trace_of(text) == trace_of(text)
    assert trace_of("mine") != trace_of("yours")


def test_spans_of_other_things_are_others() -> None:
    ids = {
        event_span(TRACE, 1),
        event_span(TRACE, 11),
        event_span("mine", 1),
        span_of(TRACE, "apply", "tables", 1),
        span_of(TRACE, "apply", "search_posts", 1),
    }
    assert len(ids) == 5
    assert all(0 < one < 1 << 64 for one in ids)


def caused_by(causation_id: str) -> Recorded:
    event = next(iter(History(seed=1).events(1))).event
    return Recorded(
        stream="post:1",
        version=1,
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
        event=event,
        correlation_id="7",
        causation_id=causation_id,
        position=12,
    )


def test_an_event_stands_below_what_caused_it() -> None:
    held = REQUEST.set(99)
    try:
        assert above_event(caused_by("11")) == event_span("7", 11)
        # A caller may choose an id that looks like a position: a request's events have it for both.
        assert above_event(caused_by("7")) == 99
    finally:
        REQUEST.reset(held)
    assert above_event(caused_by("7")) is None


def test_the_share_of_traces_that_is_exported_is_about_what_was_asked_for() -> None:
    traces = [trace_of(f"request {number}") for number in range(4_000)]
    assert sum(is_chosen(trace, 0.25) for trace in traces) == pytest.approx(1_000, rel=0.15)
    assert all(is_chosen(trace, 1.0) for trace in traces)
    assert not any(is_chosen(trace, 0.0) for trace in traces)


def test_nobody_loads_what_exports_traces_unless_it_is_asked_for() -> None:
    program = (
        "import sys, infra.composition.services.command_api, infra.composition.services.query_api,"
        " infra.composition.services.projection_worker;"
        " sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
