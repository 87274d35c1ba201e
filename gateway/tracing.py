"""Spans as OpenTelemetry has them, sent over OTLP/HTTP. Imported only where ``GATEWAY_TRACING`` is on.

Where they go, and what the service is called, is read from OpenTelemetry's own variables (``OTEL_…``). Spans wait in a queue
that has a bound, and a thread sends them: nothing here waits for whoever receives them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from gateway.core.log_limit import LogLimit
from gateway.node.ports import Span
from gateway.node.tracing import CONFIRM, FAN_OUT

log = logging.getLogger(__name__)

_SERVICE: Final = "realtime-gateway"
_SYSTEM: Final = "realtime_gateway"
_KINDS: Final = {
    FAN_OUT: (trace.SpanKind.CONSUMER, "process"),
    CONFIRM: (trace.SpanKind.CLIENT, "settle"),
}
"""By OpenTelemetry's conventions for messaging."""
_ADVICE: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT must lead to a receiver of OTLP/HTTP that answers; "
    "messages are delivered whatever becomes of their spans"
)
_LAST_SPANS_SECONDS: Final = 2.0
"""So long the end of a node may wait for its last spans to be taken."""


class Exporter:
    """Makes spans of what the node tells (``node/tracing.py``), and sends them.

    Args:
        node: the node's id.
        version: of the gateway.

    Raises:
        ValueError: a variable of OpenTelemetry's cannot be used.
    """

    def __init__(self, node: str, version: str) -> None:
        # What its parts say of a collector that is away, for each batch, is told here once in a while.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        # Which traces have spans is decided by those who begin them, and not by OTEL_TRACES_SAMPLER.
        self._provider = TracerProvider(
            ParentBased(ALWAYS_OFF), _resource(node, version), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(_Telling(OTLPSpanExporter())))
        self._tracer = self._provider.get_tracer(_SERVICE, version)
        # For the publisher that the HTTP API has: its publishes are spans, too.
        trace.set_tracer_provider(self._provider)

    def record(self, span: Span) -> str:
        """Hand over what is done; returns its traceparent."""
        kind, operation = _KINDS[span.operation]
        attributes = {
            "messaging.system": _SYSTEM,
            "messaging.operation.name": span.operation,
            "messaging.operation.type": operation,
            "messaging.destination.name": span.namespace,
            **span.attributes,
        }
        made = self._tracer.start_span(
            f"{span.operation} {span.namespace}",
            _below(span.above),
            kind,
            attributes,
            start_time=span.began,
        )
        for name, moment in span.events:
            made.add_event(name, timestamp=moment)
        made.end(span.ended)
        context = made.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    async def aclose(self) -> None:
        """Send what waits; who does not take it within two seconds does not get it."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(done.set)

        # Not by the loop's pool of threads, for whose end the process would wait.
        threading.Thread(target=shut_down, name="last spans", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SPANS_SECONDS):
                await done.wait()


class _Telling(SpanExporter):
    """Tells in the log of spans that nobody takes."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._limit = LogLimit(time.monotonic(), burst=1.0)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them, in the thread that does nothing else."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            left_out = self._limit.admit("", time.monotonic())
            if left_out is not None:
                log.warning(
                    "spans_not_taken spans=%d left_out=%d advice=%r", len(spans), left_out, _ADVICE
                )
        return result

    def shutdown(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here."""
        return self._exporter.force_flush(timeout_millis)


def _resource(node: str, version: str) -> Resource:
    """What the spans are of; ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` count before what is known here."""
    given = Resource.create()
    known = {
        "service.name": _SERVICE,
        "service.version": version,
        "service.instance.id": node,
    }
    if not str(given.attributes["service.name"]).startswith("unknown_service"):
        del known["service.name"]
    else:
        given = Resource(
            {key: value for key, value in given.attributes.items() if key != "service.name"}
        )
    return Resource(known).merge(given)


def _below(traceparent: str) -> Context:
    """Where a span is that has this one above it."""
    _, trace_id, span_id, flags = traceparent.split("-")
    above = trace.SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(flags, 16)),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(above), Context())
