"""Traces that are exported, assembled: nothing of this is there where no setting asks for it."""

import contextlib
import importlib
import time
from collections.abc import Sequence
from typing import cast

from infra.composition.settings import Settings
from infra.ports.log import EventLog, Recorded, StoredAnswer
from infra.tracing import Span, Spans, above_event, event_span, trace_of


def spans_for(
    settings: Settings, service: str, stack: contextlib.AsyncExitStack | contextlib.ExitStack
) -> Spans | None:
    """Where spans go, until the stack is closed; None where they are not exported."""
    if not settings.otlp_endpoint:
        return None
    # Its library is large, and of no use to anybody else.
    adapter = importlib.import_module("infra.adapters.otlp_spans")
    spans = adapter.OtlpSpans(settings.otlp_endpoint, service, settings.otlp_percent / 100)
    stack.callback(spans.close)
    return cast(Spans, spans)


class TracedLog:
    """An event log that tells of each event it appends as a span, under what caused it."""

    def __init__(self, log: EventLog, spans: Spans) -> None:
        self._log = log
        self._spans = spans
        self.load = log.load
        self.load_many = log.load_many
        self.answer = log.answer
        self.read = log.read
        self.head = log.head
        self.wait = log.wait

    async def append(
        self, events: Sequence[Recorded], answer: StoredAnswer | None = None
    ) -> Sequence[int]:
        positions = await self._log.append(events, answer)
        now = time.time()
        for recorded, position in zip(events, positions, strict=True):
            correlation_id = recorded.correlation_id
            trace = trace_of(correlation_id)
            if not self._spans.wants(trace):
                continue
            decided = recorded.recorded_at.timestamp()
            self._spans.add(
                Span(
                    name=f"append {type(recorded.event).__name__}",
                    kind="internal",
                    trace=trace,
                    span=event_span(correlation_id, position),
                    parent=above_event(recorded),
                    began=decided,
                    seconds=max(0.0, now - decided),
                    attributes={"plaza.position": position, "plaza.stream": recorded.stream},
                )
            )
        return positions
