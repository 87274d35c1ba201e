"""Takes the steps of a publisher's calls without Redis, and keeps what they do."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from publisher.contract import control
from publisher.contract.calls import Call, Reply
from publisher.contract.channels import Namespace, namespace_of, parse_channel
from publisher.contract.control import Command
from publisher.contract.keys import Keys
from publisher.contract.message import Message, decode
from publisher.contract.scheduling import Planned
from publisher.errors import Unavailable
from publisher.publication import Publication
from publisher.records import MAX_REPLICAS, Outgoing
from publisher.scheduling import is_own_key
from publisher.testing import commands
from publisher.testing.events import EventStream
from publisher.testing.memory import Memory
from publisher.testing.records import PublishedMessage
from publisher.transport.flows import Flow, Pause, RoundTrip, Step, T, driven


@dataclass(frozen=True, slots=True)
class _Failure:
    """What the next call ends with; whether it has taken effect all the same."""

    error: Unavailable
    took_effect: bool


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A message as the publisher was given it, and its JSON before it was sealed."""

    message: Outgoing
    body: bytes


class NothingLeft(Exception):
    """A call would wait for an event, and all are taken."""


class ShiftedClock:
    """The machine's clock, and the time that was made to pass."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return time.monotonic() + self._ahead

    def microseconds(self) -> int:
        """Since 1970."""
        return time.time_ns() // 1000 + int(self._ahead * 1_000_000)

    def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        self._ahead += seconds


class Recorder:
    """Belongs to one publisher. ``replicas`` confirm each write; ``readers`` confirm each message that they may receive."""

    def __init__(self, keys: Keys, namespaces: dict[str, Namespace]) -> None:
        self.keys = keys
        self.namespaces = namespaces
        self.clock = ShiftedClock()
        self.lock = threading.RLock()
        self.replicas = MAX_REPLICAS
        self.readers: set[str] = set()
        self._failures: deque[_Failure] = deque()
        self.clear()

    def clear(self) -> None:
        """Forget all that was recorded, and the failures that have not happened yet."""
        self.memory = Memory(self.clock.microseconds, self._hear)
        self.events = EventStream()
        self.published: list[PublishedMessage] = []
        self.commands: list[Command] = []
        self._accepted: dict[bytes, _Accepted] = {}
        self._failures.clear()

    def fail_next(self, error: Unavailable, times: int, *, took_effect: bool) -> None:
        """Let so many of the next calls end with an error."""
        self._failures.extend([_Failure(error, took_effect)] * times)

    def accepted(self, publication: Publication, message: Outgoing | tuple[str, Any]) -> None:
        """Note what a publication was made of: Redis is not told all of it."""
        given = message if isinstance(message, Outgoing) else Outgoing(*message)
        if is_own_key(given.idempotency_key):
            given = replace(given, idempotency_key=None)
        name = publication.nonce.encode()
        self._accepted[name] = _Accepted(given, publication.body)

    def run(self, flow: Flow[T]) -> T:
        """Take the steps of a call. No time passes: pauses only move the clock."""
        with self.lock:
            return driven(flow, _Steps(self).take)

    def run_event(self, flow: Flow[T]) -> T:
        """The same for what waits for an event.

        Raises:
            NothingLeft: all events are taken.
        """
        with self.lock:
            return driven(flow, self._take_event)

    def _take_event(self, step: Step) -> list[Reply]:
        if isinstance(step, Pause):
            raise NothingLeft
        return self.answer(step)

    def next_failure(self) -> _Failure | None:
        """What the call that begins now ends with, if it is to fail."""
        return self._failures.popleft() if self._failures else None

    def answer(self, step: Step) -> list[Reply]:
        """What Redis would reply to a step."""
        assert isinstance(step, RoundTrip), "the others are steps for a cluster"
        self.publish_due()
        replies = [self._run(call) for call in step.calls]
        return replies if step.wait is None else [*replies, self.replicas]

    def _run(self, call: Call) -> Reply:
        return commands.run(call, self.memory, self.events)

    def publish_due(self) -> None:
        """Publish what was scheduled for a moment that is over, as a gateway does."""
        keys, memory = self.keys, self.memory
        for identifier, _ in memory.scored(keys.scheduled, highest=memory.now_ms):
            memory.remove(keys.scheduled, [identifier])
            message = keys.scheduled_message(identifier.decode())
            kept = memory.get(message)
            memory.end(message, 0)
            if kept is not None:
                self._run(Planned.decode(kept).call(keys))

    def waiting(self) -> Iterable[PublishedMessage]:
        """What is still to be published, each with the moment in place of the time at which it was published; ids are 0."""
        keys, memory = self.keys, self.memory
        for identifier, moment in memory.scored(keys.scheduled):
            kept = memory.get(keys.scheduled_message(identifier.decode()))
            if kept is not None:
                planned = Planned.decode(kept)
                nonce = planned.nonce.encode().partition(b"+")[0]
                yield self._message(planned.channel, 0, int(moment), nonce)

    def _hear(self, name: str, payload: bytes) -> None:
        """What is published reaches everybody who listens: here the recorder."""
        if name == self.keys.control:
            self._obey(control.decode(payload))
        elif name.startswith(self.keys.live("").removesuffix("}")):
            self._take_down(self.keys.heard(name), decode(payload))

    def _take_down(self, channel: str, message: Message) -> None:
        identifier = message.id if message.logged else 0
        self.published.append(self._message(channel, identifier, message.timestamp, message.nonce))
        if message.logged:
            for user in filter(partial(self._may_receive, channel), self.readers):
                self.confirm(channel, user, identifier)

    def _may_receive(self, channel: str, user: str) -> bool:
        rules = self.namespaces[namespace_of(channel)]
        return rules.owner.lets_in(parse_channel(channel), user) is not False

    def _message(
        self, channel: str, identifier: int, timestamp: int, nonce: bytes
    ) -> PublishedMessage:
        accepted = self._accepted[nonce.partition(b"/")[0]]
        given = accepted.message
        return PublishedMessage(
            id=identifier,
            channel=channel,
            data=orjson.loads(accepted.body),
            timestamp=timestamp,
            idempotency_key=given.idempotency_key,
            retention=given.retention,
            min_replicas=given.min_replicas,
            collapse_key=given.collapse_key,
            ttl=given.ttl,
            traceparent=given.traceparent,
        )

    def confirm(self, channel: str, user: str, identifier: int) -> None:
        """Note that a user has received all up to a message."""
        key, member = self.keys.confirmed(channel), user.encode()
        before = self.memory.score(key, member) or 0
        self.memory.add(key, member, max(before, identifier))

    def _obey(self, command: Command | None) -> None:
        """Note a command to the gateways, and do to the connections what they would."""
        if command is None:
            return
        self.commands.append(command)
        if isinstance(command, control.Disconnect):
            key = self.keys.connections(command.user)
            named = None if command.connection is None else command.connection.encode()
            members = [each for each, _ in self.memory.scored(key) if named in {None, each}]
            self.memory.remove(key, members)


class _Steps:
    """The steps of one call, which fails where that was asked for."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._began = False
        self._failure: _Failure | None = None

    def take(self, step: Step) -> list[Reply]:
        """What Redis would reply to a step.

        Raises:
            Unavailable: the call is to fail.
        """
        if isinstance(step, Pause):
            self._recorder.clock.advance(step.seconds)
            return []
        first, self._began = not self._began, True
        if first:
            self._failure = self._recorder.next_failure()
        if self._failure is None:
            return self._recorder.answer(step)
        if first and self._failure.took_effect:
            self._recorder.answer(step)
        error = self._failure.error
        # One object for each: an error collects the traceback of where it is raised.
        raise error.told(maybe_sent=error.maybe_sent)
