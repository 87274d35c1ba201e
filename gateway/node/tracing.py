"""Spans of messages that carry a trace: one of the fan-out, and one of its confirmation, on each node that has receivers.

Without tracing nothing of this is made: the hub takes live messages directly (:meth:`Tracing.receiver`), and nobody but it is called.
How many receivers there are makes no difference to the number of spans.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.core.rate_limit import TokenBucket
from gateway.node.connection import Channel
from gateway.node.outboxes import Outboxes
from gateway.node.ports import Clocks, Span, Spans
from gateway.node.timings import RedisClock
from publisher.contract.channels import namespace_of
from publisher.contract.trace_context import traced

PER_SECOND: Final = 200.0
BURST: Final = 1_000.0
"""So many messages a node makes spans for: whether one has a trace is for its backend to say, and a span costs as much as some deliveries."""

CONFIRMED_WITHIN_SECONDS: Final = 30.0
"""Then a span ends whoever has not confirmed by then: they may be away."""

_AWAITED: Final = 16
"""Messages of a channel whose confirmation is followed at a time: each answer is looked at for all of them."""
_CHANNELS: Final = 1_000

FAN_OUT: Final = "fan-out"
CONFIRM: Final = "confirm"


@dataclass(slots=True)
class _Fresh:
    """A message of this turn. ``logged_at`` and ``received_at``: nanoseconds since 1970."""

    channel: str
    id: int
    logged: bool
    above: str
    logged_at: int
    received_at: int
    receivers: int


@dataclass(slots=True)
class _Awaited:
    """A message that has gone out to ``receivers``; ``first_at`` and ``last_at`` are when they have confirmed it."""

    id: int
    above: str
    began: int
    until: float
    receivers: int
    confirmed: int = 0
    first_at: int = 0
    last_at: int = 0


class Tracing:
    """Follows the messages that carry a trace.

    Args:
        spans: where spans go.
        channels: those that the hub has.
        clocks: the node's.
        redis_clock: tells how old a message is.
    """

    def __init__(
        self,
        spans: Spans,
        channels: Mapping[str, Channel],
        outboxes: Outboxes,
        call_soon: Callable[[Callable[[], None]], object],
        clocks: Clocks,
        redis_clock: RedisClock,
    ) -> None:
        self._spans = spans
        self._channels = channels
        self._outboxes = outboxes
        self._call_soon = call_soon
        self._clocks = clocks
        self._redis_clock = redis_clock
        self._allowed = TokenBucket(PER_SECOND, BURST, clocks.monotonic())
        self._fresh: list[_Fresh] = []
        self._awaited: dict[str, deque[_Awaited]] = {}

    # -- from Redis to the sockets ------------------------------------------------------------------

    def receiver(self, channel: str, receive: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """What takes the live payloads of a channel in the place of ``receive``, which it calls."""
        return partial(self._receive, channel, receive)

    def _receive(self, name: str, receive: Callable[[bytes], None], payload: bytes) -> None:
        receive(payload)
        found = traced(payload)
        if found is None:
            return
        channel = self._channels.get(name)
        # What was not taken is missing something before it, and comes from the log.
        if channel is None or not channel.pending or channel.pending[-1].id != found[0]:
            return
        receivers = sum(map(len, channel.members.values()))
        if not receivers or not self._allowed.take(1, self._clocks.monotonic()):
            return
        now = self._now()
        id_, logged, above = found
        # The id of one without a log is the time of a backend's clock.
        age = self._redis_clock.age(id_) if logged else None
        logged_at = now - round((age or 0.0) * 1e9)
        if not self._fresh:
            self._call_soon(self._written)
        self._fresh.append(_Fresh(name, id_, logged, above, logged_at, now, receivers))

    def _written(self) -> None:
        """The turn has ended; all is written, unless it is more than a turn bears."""
        if self._outboxes.scheduled:
            self._call_soon(self._written)
            return
        fresh, self._fresh = self._fresh, []
        now = self._now()
        for each in fresh:
            span = Span(
                FAN_OUT,
                namespace_of(each.channel),
                each.above,
                each.logged_at,
                now,
                _numbers(each.id if each.logged else 0, receivers=each.receivers),
                (("received", each.received_at),),
            )
            named = self._spans.record(span)
            if each.logged:
                self._await(each, named, now)

    def _await(self, fresh: _Fresh, above: str, now: int) -> None:
        awaited = self._awaited.get(fresh.channel)
        if awaited is None:
            if len(self._awaited) >= _CHANNELS:
                return
            awaited = self._awaited[fresh.channel] = deque()
        if len(awaited) >= _AWAITED:
            return
        until = self._clocks.monotonic() + CONFIRMED_WITHIN_SECONDS
        awaited.append(_Awaited(fresh.id, above, now, until, fresh.receivers))

    # -- from the sockets ---------------------------------------------------------------------------

    def confirmed(self, channel: str, after: int, upto: int) -> None:
        """A connection has everything in a channel up to ``upto``, and not only up to ``after`` any more."""
        awaited = self._awaited.get(channel)
        if awaited is None:
            return
        now = 0
        for each in awaited:
            if after < each.id <= upto:
                now = now or self._now()
                each.confirmed += 1
                each.first_at = each.first_at or now
                each.last_at = now
        while awaited and awaited[0].confirmed >= awaited[0].receivers:
            self._end(channel, awaited.popleft())
        if not awaited:
            del self._awaited[channel]

    def tick(self) -> None:
        """End what has waited for long enough."""
        now = self._clocks.monotonic()
        for channel, awaited in list(self._awaited.items()):
            while awaited and now >= awaited[0].until:
                self._end(channel, awaited.popleft())
            if not awaited:
                del self._awaited[channel]

    def close(self) -> None:
        """End all that waits: the node ends."""
        for channel, awaited in self._awaited.items():
            for each in awaited:
                self._end(channel, each)
        self._awaited.clear()

    def _end(self, channel: str, each: _Awaited) -> None:
        ended = each.last_at if each.confirmed >= each.receivers else self._now()
        events = (("first confirmation", each.first_at),) if each.first_at else ()
        numbers = _numbers(each.id, receivers=each.receivers, confirmed=each.confirmed)
        self._spans.record(
            Span(CONFIRM, namespace_of(channel), each.above, each.began, ended, numbers, events)
        )

    def _now(self) -> int:
        return round(self._clocks.wall() * 1e9)


def _numbers(id_: int, **numbers: int) -> dict[str, str | int]:
    """The attributes of a span: no channel, which may be named after a user, and nobody's id."""
    message: dict[str, str | int] = {"messaging.message.id": str(id_)} if id_ else {}
    return message | {f"gateway.{name}": number for name, number in numbers.items()}
