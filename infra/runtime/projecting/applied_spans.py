"""Tells as spans when appliers had applied what: used only where traces are exported."""

from collections.abc import Sequence

from infra.ports.frames import Frame
from infra.tracing import Span, Spans, event_span, span_of, trace_of


class AppliedSpans:
    """Told of batches once they are applied; see `infra.runtime.projecting.appliers.Appliers`."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def applied(self, name: str, frames: Sequence[Frame], now: float, seconds: float) -> None:
        """A batch counts as a whole for each of its events: they are applied together."""
        for frame in frames:
            for recorded in frame.events:
                correlation_id = recorded.correlation_id
                trace = trace_of(correlation_id)
                if not self._spans.wants(trace):
                    continue
                self._spans.add(
                    Span(
                        name=f"apply {name}",
                        kind="internal",
                        trace=trace,
                        span=span_of(correlation_id, "apply", name, recorded.position),
                        parent=event_span(correlation_id, recorded.position),
                        began=now - seconds,
                        seconds=seconds,
                        attributes={
                            "plaza.position": recorded.position,
                            "plaza.partition": frame.partition,
                        },
                    )
                )
