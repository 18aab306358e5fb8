"""Exports spans by OpenTelemetry's protocol over HTTP. To be imported only where that is wanted.

Spans arrive here finished and with their ids, so that of the library only its queue, its batches
and its exporter are used, and nothing of it runs inside of a request.
"""

from collections.abc import Callable

from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from infra.tracing import Span, is_chosen

QUEUE_MAX = 20_000
BATCH_MAX = 512
BATCH_MILLISECONDS = 1_000
SEND_SECONDS = 5.0
NANOSECONDS = 1_000_000_000
PATH = "/v1/traces"
SAMPLED = api.TraceFlags(api.TraceFlags.SAMPLED)
FAILED, UNSET = api.Status(api.StatusCode.ERROR), api.Status()
KINDS = {
    "server": api.SpanKind.SERVER,
    "client": api.SpanKind.CLIENT,
    "internal": api.SpanKind.INTERNAL,
}


class OtlpSpans:
    """`infra.tracing.Spans`. `endpoint` is an OTLP collector's address, without the path."""

    def __init__(self, endpoint: str, service: str, share: float) -> None:
        self._share = share
        self._resource = Resource.create(
            {"service.name": f"plaza-{service}", "service.namespace": "plaza"}
        )
        self._processor = BatchSpanProcessor(
            OTLPSpanExporter(endpoint.rstrip("/") + PATH, timeout=SEND_SECONDS),
            max_queue_size=QUEUE_MAX,
            schedule_delay_millis=BATCH_MILLISECONDS,
            max_export_batch_size=BATCH_MAX,
        )
        self.close: Callable[[], None] = self._processor.shutdown
        """Send what waits, for a few seconds at most."""

    def wants(self, trace: int) -> bool:
        return is_chosen(trace, self._share)

    def add(self, span: Span) -> None:
        began = int(span.began * NANOSECONDS)
        self._processor.on_end(
            ReadableSpan(
                span.name,
                context=place(span.trace, span.span),
                parent=None if span.parent is None else place(span.trace, span.parent),
                resource=self._resource,
                attributes=span.attributes,
                kind=KINDS[span.kind],
                status=FAILED if span.failed else UNSET,
                start_time=began,
                end_time=began + int(span.seconds * NANOSECONDS),
            )
        )


def place(trace: int, span: int) -> api.SpanContext:
    return api.SpanContext(trace, span, is_remote=False, trace_flags=SAMPLED)
