"""Traces: what a message carries, and the spans of a backend that has OpenTelemetry."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from publisher import (
    AsyncPublisher,
    InvalidInput,
    Namespace,
    Outgoing,
    Owner,
    Publisher,
    Retention,
    Scheduled,
)
from publisher.contract.channels import DEFAULT_NAMESPACES
from publisher.contract.keys import Keys
from publisher.contract.message import decode
from publisher.contract.scheduling import Planned
from publisher.contract.trace_context import is_traceparent, of_header, traced
from tests.publisher.announcing import Announce
from tests.publisher.listening import listening
from tests.publisher.reply_cutter import ReplyCutter
from tests.support import topology
from tests.support.topology import Looking

CHANNEL = "notifications/u"
TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{ABOVE}-01"
NOT_SAMPLED = f"00-{TRACE}-{ABOVE}-00"

INVALID = [
    "",
    SAMPLED.upper(),
    f" {SAMPLED}",
    f"{SAMPLED}\n",
    f"{SAMPLED}-",
    f"01-{TRACE}-{ABOVE}-01",
    f"ff-{TRACE}-{ABOVE}-01",
    f"00-{'0' * 32}-{ABOVE}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE[1:]}-{ABOVE}-01",
    f"00-{TRACE}-{ABOVE}-1",
    f"00-{TRACE}-{ABOVE}",
    1,
    b"00",
]


def entries(server: Looking, keys: Keys, channel: str = CHANNEL) -> list[bytes]:
    return server.zrange(keys.log(channel), 0, -1)


def carried(server: Looking, keys: Keys, channel: str = CHANNEL) -> list[str | None]:
    """The traceparents of the channel's messages."""
    found = [traced(each) for each in entries(server, keys, channel)]
    return [None if each is None else each[2] for each in found]


class Backend:
    """A program that has OpenTelemetry: its spans, and what its messages carry."""

    def __init__(self, provider: TracerProvider, server: Looking, keys: Keys) -> None:
        self._exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._tracer = provider.get_tracer("a backend")
        self._server = server
        self._keys = keys

    def doing(self, name: str) -> AbstractContextManager[trace.Span]:
        """A span of its own, which is current in the block."""
        return self._tracer.start_as_current_span(name)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Those that have ended."""
        return self._exporter.get_finished_spans()

    def carried(self, channel: str = CHANNEL) -> list[str | None]:
        """The traceparents of the channel's messages."""
        return carried(self._server, self._keys, channel)

    def planned(self, scheduled: Scheduled) -> Planned:
        """What is kept of a message that is to be published later."""
        return Planned.decode(self._server.get(self._keys.scheduled_message(scheduled.id)))


@pytest.fixture
def backend(server: Looking, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """A program sets its provider once and for all, so the tests let it be found only as long as they want it."""
    provider = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return Backend(provider, server, keys)


def text(context: trace.SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def named(span: ReadableSpan) -> str:
    assert span.context is not None
    return text(span.context)


def above(span: ReadableSpan) -> str:
    assert span.parent is not None
    return text(span.parent)


# -- what is one ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", INVALID)
def test_what_is_no_traceparent_is_refused_and_nothing_is_published(
    publisher: Publisher, server: Looking, keys: Keys, text: Any
) -> None:
    with pytest.raises(InvalidInput, match="traceparent"):
        publisher.publish(CHANNEL, 1, traceparent=text)
    (outcome,) = publisher.publish_many([Outgoing(CHANNEL, 1, traceparent=text)])
    assert isinstance(outcome, InvalidInput)
    assert entries(server, keys) == []


def test_a_header_is_read_as_the_specification_says():
    assert is_traceparent(SAMPLED)
    assert of_header(f" {SAMPLED}\t") == SAMPLED
    # Of a later version the parts are taken that are known.
    assert of_header(f"cc-{TRACE}-{ABOVE}-01-what the future will be like") == SAMPLED
    assert of_header(f"cc-{TRACE}-{ABOVE}-01") == SAMPLED
    for text in INVALID:
        if isinstance(text, str) and text.strip() != SAMPLED and not text.startswith("01"):
            assert of_header(text) is None
    assert of_header(f"cc-{TRACE}-{ABOVE}-01.") is None


@pytest.mark.parametrize(
    "entry",
    [
        b"5:4:n:1",
        b"5:4:n/00-x:1",
        f"5:4:n/{SAMPLED}:".encode(),
        f"5:4:n/{NOT_SAMPLED}:1".encode(),
        f"5:4:n/00-{'0' * 32}-{ABOVE}-01:1".encode(),
        f"5:4:n+{SAMPLED}:1".encode(),
        f"5:4:n:/{SAMPLED}:1".encode(),
        f"x:4:n/{SAMPLED}:1".encode(),
        b"/",
    ],
)
def test_who_has_no_trace_has_none(entry: bytes):
    assert traced(entry) is None


def test_a_trace_is_found_whatever_stands_behind_it():
    for extension in ("", "+e1.k", "+t5,e1.k"):
        assert traced(f"5:4:n/{SAMPLED}{extension}:\n".encode()) == (5, True, SAMPLED)
    assert traced(f"5::n/{SAMPLED}:1".encode()) == (5, False, SAMPLED)


# -- what a message carries -------------------------------------------------------------------------


def test_a_message_carries_its_trace_where_every_reader_sees_a_nonce(
    publisher: Publisher, server: Looking, keys: Keys
) -> None:
    publisher.publish(CHANNEL, {"a": 1}, traceparent=SAMPLED)
    (entry,) = entries(server, keys)
    message = decode(entry)
    assert (message.body, message.extension) == (b'{"a":1}', b"")
    assert message.nonce.endswith(f"/{SAMPLED}".encode())
    assert carried(server, keys) == [SAMPLED]


def test_a_trace_that_nobody_samples_takes_no_room(
    publisher: Publisher, server: Looking, keys: Keys
) -> None:
    publisher.publish(CHANNEL, 1, traceparent=NOT_SAMPLED)
    (entry,) = entries(server, keys)
    assert b"/" not in entry


def test_a_key_is_recognised_whatever_the_trace(
    publisher: Publisher, server: Looking, keys: Keys
) -> None:
    first = publisher.publish(CHANNEL, 1, idempotency_key="k", traceparent=SAMPLED)
    (result,) = topology.names(server, keys.result(CHANNEL, "*"))
    assert b"/" not in server.get(result)
    other = SAMPLED.replace(ABOVE, "1" * 16)
    for text in (other, None):
        again = publisher.publish(CHANNEL, 1, idempotency_key="k", traceparent=text)
        assert (again.id, again.duplicate) == (first.id, True)
    assert carried(server, keys) == [SAMPLED]


@pytest.mark.parametrize("key", [None, "k"])
def test_a_message_whose_answer_was_lost_is_found_again_and_is_no_duplicate(
    cutter: ReplyCutter, prefix: str, server: Looking, keys: Keys, key: str | None
) -> None:
    with Publisher.from_url(cutter.url, prefix=prefix) as publisher:
        publisher.publish(CHANNEL, 0)
        cutter.cut(b"EVALSHA")
        published = publisher.publish(CHANNEL, 1, idempotency_key=key, traceparent=SAMPLED)
    assert cutter.cut_replies == 1
    assert not published.duplicate
    assert [decode(each).id for each in entries(server, keys)][1:] == [published.id]


def test_what_is_taken_out_leaves_no_trace(
    publisher: Publisher, server: Looking, keys: Keys
) -> None:
    publisher.publish(CHANNEL, 1, collapse_key="c", traceparent=SAMPLED)
    second = publisher.publish(CHANNEL, 2, collapse_key="c", traceparent=SAMPLED, ttl=60)
    third = publisher.publish(CHANNEL, 3, traceparent=SAMPLED)
    assert carried(server, keys) == [SAMPLED, SAMPLED]
    for each in (second, third):
        assert publisher.delete(CHANNEL, each.id)
        assert not publisher.delete(CHANNEL, each.id)
    left = [*entries(server, keys), *server.zrange(keys.removed(CHANNEL), 0, -1)]
    assert len(left) == 2
    assert not any(b"/" in each for each in left)


def test_what_a_version_before_has_taken_out_is_not_taken_out_twice(
    publisher: Publisher, server: Looking, keys: Keys
) -> None:
    """Its script has left the trace where it was."""
    server.zadd(keys.log(CHANNEL), {f"5:4:n/{SAMPLED}:": 5})
    assert not publisher.delete(CHANNEL, 5)


def test_it_is_carried_without_a_log_sealed_and_later(
    publisher_url: str, prefix: str, server: Looking, keys: Keys, announce: Announce
) -> None:
    ring = "k1:" + "A" * 43 + "="
    announce(
        *DEFAULT_NAMESPACES.values(),
        Namespace("calls", Owner.ANYONE, None),
        Namespace("secrets", Owner.ANYONE, Retention(100, 60), encrypted=True),
    )
    with Publisher.from_url(publisher_url, prefix=prefix, encryption_keys=ring) as publisher:
        with listening(server, keys.live("calls/a")) as listener:
            publisher.publish("calls/a", 1, traceparent=SAMPLED)
            message = listener.get_message(timeout=10)
        assert message is not None
        payload = message["data"]
        assert traced(payload) is not None
        assert decode(payload).body == b"1"
        publisher.publish("secrets/a", 1, traceparent=SAMPLED)
        assert carried(server, keys, "secrets/a") == [SAMPLED]
        scheduled = publisher.publish(
            CHANNEL, 1, at=time.time() + 60, idempotency_key="k", traceparent=SAMPLED
        )
    kept = Planned.decode(server.get(keys.scheduled_message(scheduled.id)))
    assert kept.nonce.endswith(f"/{SAMPLED}")
    call = kept.call(keys)
    assert "/" not in call.arguments[1].replace(f"{{{CHANNEL}}}", "")  # type: ignore[union-attr]


# -- spans of a backend -----------------------------------------------------------------------------


def test_a_publish_is_a_span_below_the_current_one(publisher: Publisher, backend: Backend) -> None:
    with backend.doing("an order"):
        published = publisher.publish(CHANNEL, {"secret": "text"})
    publish, order = backend.spans
    assert (publish.name, publish.kind) == ("publish notifications", SpanKind.PRODUCER)
    assert above(publish) == named(order)
    assert backend.carried() == [named(publish)]
    # Neither the channel, which names a user, nor what is published.
    assert dict(publish.attributes or {}) == {
        "messaging.system": "realtime_gateway",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "notifications",
        "messaging.message.id": str(published.id),
    }


async def test_it_is_one_of_each_call_that_shares_a_round_trip(
    async_publisher: AsyncPublisher, backend: Backend
) -> None:
    async def request(number: int) -> None:
        with backend.doing(f"request {number}"):
            await async_publisher.publish(CHANNEL, number)

    await asyncio.gather(*map(request, range(5)))
    found = backend.spans
    requests = {named(each) for each in found if each.name.startswith("request")}
    publishes = [each for each in found if each.name == "publish notifications"]
    assert {above(each) for each in publishes} == requests
    assert len(requests) == 5
    assert set(backend.carried()) == set(map(named, publishes))


def test_what_is_given_counts_before_what_is_current(
    publisher: Publisher, backend: Backend
) -> None:
    with backend.doing("another trace"):
        publisher.publish(CHANNEL, 1, traceparent=SAMPLED)
        publisher.publish(CHANNEL, 2, traceparent=NOT_SAMPLED)
    publish, _ = backend.spans
    assert above(publish) == SAMPLED
    assert backend.carried() == [named(publish), None]


def test_many_messages_are_one_span(publisher: Publisher, backend: Backend) -> None:
    with backend.doing("a batch"):
        publisher.publish_many(
            [(CHANNEL, 1), Outgoing(CHANNEL, 2, traceparent=SAMPLED), (CHANNEL, 3), ("no", 4)]
        )
        publisher.broadcast(1, users=["a", "b"])
    many, broadcast, _ = backend.spans
    assert many.name == broadcast.name == "publish"
    assert backend.carried() == [named(many), SAMPLED, named(many)]
    assert backend.carried("notifications/a") == [named(broadcast)]
    attributes = dict(many.attributes or {})
    assert attributes["messaging.batch.message_count"] == 4
    assert attributes["error.type"] == "InvalidChannel"
    assert "messaging.destination.name" not in attributes


def test_a_scheduled_message_is_a_span_and_carries_it(
    publisher: Publisher, backend: Backend
) -> None:
    with backend.doing("today"):
        scheduled = publisher.publish(CHANNEL, 1, at=time.time() + 60)
    schedule, _ = backend.spans
    assert schedule.name == "schedule notifications"
    kept = backend.planned(scheduled)
    assert kept.nonce.endswith(f"/{named(schedule)}")


def test_what_fails_says_how_and_nothing_of_whom(nobody: str, backend: Backend) -> None:
    with Publisher.from_url(nobody, retries=0) as publisher:
        with backend.doing("an order"):
            for call in (
                lambda: publisher.publish(CHANNEL, 1),
                lambda: publisher.publish(CHANNEL, 1, at=0),
            ):
                with pytest.raises(Exception, match=r"refused|not answer|Connect"):
                    call()
    for each in backend.spans[:2]:
        assert each.status.status_code is StatusCode.ERROR
        assert each.status.description is None
        assert (each.attributes or {})["error.type"] == "Unavailable"
        assert not each.events


def test_without_a_trace_there_is_no_span(publisher: Publisher, backend: Backend) -> None:
    publisher.publish(CHANNEL, 1)
    publisher.publish_many([(CHANNEL, 2)])
    with trace.use_span(trace.NonRecordingSpan(trace.INVALID_SPAN_CONTEXT)):
        publisher.publish(CHANNEL, 3)
    assert backend.spans == ()
    assert backend.carried() == [None, None, None]


def test_opentelemetry_is_not_imported_by_whoever_does_not_use_it(
    publisher_url: str, prefix: str
) -> None:
    # The redis package imports parts of it by itself where it is installed.
    program = (
        "import sys, redis, redis.asyncio\nbefore = set(sys.modules)\nfrom publisher import Publisher\n"
        f"with Publisher.from_url({publisher_url!r}, prefix={prefix!r}) as publisher:\n"
        f"    publisher.publish({CHANNEL!r}, 1, traceparent={SAMPLED!r})\n"
        "print([name for name in set(sys.modules) - before if name.startswith('opentelemetry')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
