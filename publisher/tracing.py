"""Spans of a backend's publishes, where its program has OpenTelemetry loaded and a trace is on its way.

OpenTelemetry is not imported here: a program that has not done so itself has no span that a message could belong to. Attributes
are those of OpenTelemetry's conventions for messaging, as far as they name no user: a channel often is a user's id, so the namespace
stands in its place (``docs/tracing.md``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from publisher.contract.trace_context import is_traceparent
from publisher.errors import InvalidData, PublisherError
from publisher.records import Published

_SYSTEM: Final = "realtime_gateway"
_NAME: Final = "publisher"
_FLAGS: Final = 0xFF


class Trace:
    """A span of one call. ``traceparent`` names it, for the messages of the call."""

    __slots__ = ("_api", "_span", "traceparent")

    def __init__(self, api: Any, span: Any) -> None:
        self._api = api
        self._span = span
        context = span.get_span_context()
        self.traceparent = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & _FLAGS:02x}"
        )

    def end(self, outcome: object) -> None:
        """The call is over; ``outcome`` is what it returns, or the error that it raises."""
        span = self._span
        if isinstance(outcome, BaseException):
            self._note_error(outcome)
        elif isinstance(outcome, Published):
            if outcome.id:
                span.set_attribute("messaging.message.id", str(outcome.id))
            if outcome.duplicate:
                span.set_attribute("messaging.realtime_gateway.duplicate", True)
        span.end()

    def _note_error(self, error: BaseException) -> None:
        # Its text may name a channel.
        self._span.set_attribute("error.type", type(error).__name__)
        self._span.set_status(self._api.StatusCode.ERROR)

    def note_outcomes(self, outcomes: Sequence[object]) -> None:
        """What became of the messages of a call that publishes several."""
        self._span.set_attribute("messaging.batch.message_count", len(outcomes))
        failed = next((each for each in outcomes if isinstance(each, PublisherError)), None)
        if failed is not None:
            self._note_error(failed)


def begin(operation: str, namespace: str = "", above: str | None = None) -> Trace | None:
    """A span for a call that begins, if its trace is sampled; ``None`` where there is no trace, or no OpenTelemetry.

    ``above``: the traceparent that the call was given; without one that of the current span counts.
    """
    api: Any = sys.modules.get("opentelemetry.trace")
    # Another thread may be importing it just now: this is the last name there.
    if api is None or not hasattr(api, "__all__"):
        return None
    context = None
    if above is None:
        current = api.get_current_span().get_span_context()
    else:
        current = _context_of(api, above)
        context = api.set_span_in_context(api.NonRecordingSpan(current))
    if not (current.is_valid and current.trace_flags.sampled):
        return None
    kind = {"messaging.destination.name": namespace} if namespace else {}
    span = _tracer(api.get_tracer_provider()).start_span(
        f"{operation} {namespace}".rstrip(),
        context,
        api.SpanKind.PRODUCER,
        {
            "messaging.system": _SYSTEM,
            "messaging.operation.name": operation,
            "messaging.operation.type": "send",
            **kind,
        },
    )
    return Trace(api, span)


@contextmanager
def spanning(
    operation: str, namespace: str = "", above: str | None = None
) -> Iterator[Trace | None]:
    """The same around a call, whose end it notes."""
    trace = begin(operation, namespace, above)
    try:
        yield trace
    except BaseException as error:
        if trace is not None:
            trace.end(error)
        raise
    if trace is not None:
        trace.end(None)


def check_traceparent(value: object) -> None:
    """A traceparent of version 00 (W3C Trace Context)."""
    if not (isinstance(value, str) and is_traceparent(value)):
        raise InvalidData(
            "traceparent must be one of W3C Trace Context, version 00: "
            "00-<32 hexadecimal digits>-<16>-<2>, in lower case and not all zero"
        )


def _context_of(api: Any, traceparent: str) -> Any:
    _, trace_id, span_id, flags = traceparent.split("-")
    return api.SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=api.TraceFlags(int(flags, 16)),
    )


@lru_cache(maxsize=1)
def _tracer(provider: Any) -> Any:
    return provider.get_tracer(_NAME)
