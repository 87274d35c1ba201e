"""What each call of the library does, apart from the waiting (``flow.py``)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Final

import orjson
from redis.exceptions import ResponseError

from publisher.contract import control, scripts
from publisher.contract.calls import Call, Reply, Wait, parse_log, read_log
from publisher.contract.channels import (
    DEFAULT_NAMESPACES,
    NOTIFICATIONS,
    RUN_RESULTS,
    Namespace,
    parse_channel,
)
from publisher.contract.keys import Keys
from publisher.errors import InvalidInput, PublisherError, Unavailable, UnknownNamespace
from publisher.flow import Flow, Retries, RoundTrip
from publisher.publishing import BATCH, Delivery, narrow, next_batch, unique_names
from publisher.records import (
    Connection,
    Entry,
    Outgoing,
    Published,
    check_integer,
    check_text,
    check_ttl,
)
from publisher.transport.failures import meaning

DEFAULT_GRANT_TTL_SECONDS: Final = 30 * 86_400
DEFAULT_MAX_MESSAGE_BYTES: Final = 1024 * 1024

_NAMESPACES_FRESH_SECONDS: Final = 60.0

log = logging.getLogger("publisher")


@dataclass(slots=True)
class Operations:
    """Builds the flows. One instance belongs to one client and holds what it has learnt.

    ``clock`` is a monotonic clock in seconds, ``wall_clock`` one in microseconds since 1970.
    ``min_replicas`` have to confirm each publish, within ``replica_timeout`` seconds.
    """

    keys: Keys
    clock: Callable[[], float]
    wall_clock: Callable[[], int]
    retries: Retries
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    min_replicas: int = 0
    replica_timeout: float = 1.0
    namespaces: Mapping[str, Namespace] = field(default_factory=lambda: dict(DEFAULT_NAMESPACES))
    _learnt_at: float = float("-inf")

    # -- publishing ---------------------------------------------------------------------------

    def publish(self, message: Outgoing) -> Flow[Published]:
        """Publish one message; returns :class:`Published`, raises what stopped it."""
        outcome = (yield from self.publish_many([message]))[0]
        if isinstance(outcome, PublisherError):
            raise outcome
        return outcome

    def publish_many(self, messages: Iterable[Outgoing]) -> Flow[list[Published | PublisherError]]:
        """Publish in as few round trips as can be; returns the outcome of each message."""
        accepted = list(map(self._accept, messages, unique_names()))
        deliveries = [each for each in accepted if isinstance(each, Delivery)]
        if deliveries:
            yield from self._apply_namespaces(deliveries)
            yield from self._deliver(deliveries)
        return [_outcome(each) for each in accepted]

    def notify(
        self,
        user: str,
        *,
        title: str,
        message: str,
        action: str | None = None,
        request_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Flow[Published]:
        """Publish a notification to ``notifications/<user>``."""
        given = {"title": title, "message": message, "action": action, "requestId": request_id}
        data = {name: text for name, text in given.items() if text is not None}
        for name in {"title", "message"} | data.keys():
            check_text(name, given[name], empty=True)
        return self.publish(Outgoing(f"{NOTIFICATIONS}/{user}", data, idempotency_key))

    def run_result(
        self,
        session: str,
        *,
        stdout: str,
        stderr: str,
        exit_code: int,
        duration: int,
        user: str | None = None,
        idempotency_key: str | None = None,
    ) -> Flow[Published]:
        """Publish to ``run-results/<session>``, and grant the session to ``user`` first if one is named."""
        check_text("stdout", stdout, empty=True)
        check_text("stderr", stderr, empty=True)
        check_integer("exit_code", exit_code, lowest=-(2**31), highest=2**32)
        check_integer("duration", duration, lowest=0)
        data = {"stdout": stdout, "stderr": stderr, "exitCode": exit_code, "duration": duration}
        message = Outgoing(f"{RUN_RESULTS}/{session}", data, idempotency_key)
        # Nobody is granted a session for a result that cannot be sent.
        Delivery(message, "", self.max_message_bytes)
        if user is not None:
            try:
                yield from self.grant(message.channel, user)
            except Unavailable as error:
                # Whatever became of the grant, the result has not been sent.
                raise error.told(maybe_sent=False) from error.__cause__
        return (yield from self.publish(message))

    def _accept(self, message: Outgoing, name: str) -> Delivery | InvalidInput:
        try:
            return Delivery(message, name, self.max_message_bytes, self.min_replicas)
        except InvalidInput as error:
            return error

    def _apply_namespaces(self, deliveries: list[Delivery]) -> Flow[None]:
        named = {each.namespace for each in deliveries}
        try:
            yield from self._learn_namespaces(named)
        except Unavailable as error:
            for each in deliveries:
                each.failed(error)
            return
        for each in deliveries:
            try:
                each.follow(self._namespace(each.namespace))
            except InvalidInput as error:
                each.outcome = error

    def _deliver(self, deliveries: Iterable[Delivery]) -> Flow[None]:
        failures = 0
        untried = (each for each in deliveries if each.outcome is None)
        waiting: list[Delivery] = []
        while waiting := [*waiting, *islice(untried, BATCH - len(waiting))]:
            batch = next_batch(waiting)
            failure = yield from self._try(batch)
            waiting = [each for each in waiting if each.pending]
            narrow(batch, waiting)
            if failure is None:
                failures = 0
                continue
            _log_failure(failure)
            failures += 1
            if failures > self.retries.limit:
                for each in chain(waiting, untried):
                    each.failed(failure.told(maybe_sent=False))
                return
            if waiting:
                yield self.retries.pause(failures)

    def _try(self, batch: Sequence[Delivery]) -> Flow[Unavailable | None]:
        """One round trip; returns why another is needed, or ``None``."""
        began = self.clock()
        try:
            undated = [each for each in batch if each.maybe_sent and not each.doubtful_since]
            if undated:
                yield from self._date(undated)
            replicas = max(each.min_replicas for each in batch)
            wait = Wait(replicas, self.replica_timeout) if replicas else None
            calls = [each.call(self.keys, self.wall_clock) for each in batch]
            replies = yield RoundTrip(calls, wait)
        except Unavailable as error:
            for each in batch:
                each.failed(error, began)
            return error
        count = replies.pop() if wait else None
        for each, reply in zip(batch, replies, strict=True):
            each.answered(reply)
            if wait:
                each.confirmed(count, wait.seconds)
        outcomes = (each.outcome for each in batch if each.pending)
        return next((each for each in outcomes if isinstance(each, Unavailable)), None)

    def _date(self, undated: Sequence[Delivery]) -> Flow[None]:
        """Learn when, by the clock of Redis, messages can first have arrived that perhaps have."""
        try:
            ((seconds, microseconds),) = yield from self._once([Call(("TIME",))])
        except Unavailable as error:
            raise error.told(maybe_sent=False) from error.__cause__
        heard = self.clock()
        for each in undated:
            assert each.doubtful_at is not None
            ago = math.ceil((heard - each.doubtful_at) * 1_000_000)
            # The reply was some time on its way, so this is too early rather than too late.
            each.doubtful_since = int(seconds) * 1_000_000 + int(microseconds) - ago

    # -- grants -------------------------------------------------------------------------------

    def grant(
        self, channel: str, user: str, ttl: int | None = DEFAULT_GRANT_TTL_SECONDS
    ) -> Flow[None]:
        """Let ``user`` (``*``: everybody) subscribe to ``channel`` for ``ttl`` seconds, ``None`` for ever."""
        namespace = parse_channel(channel).namespace
        check_text("user", user)
        check_ttl(ttl)
        yield from self._learn_namespaces({namespace})
        self._namespace(namespace)
        lifetime = "" if ttl is None else ttl * 1000
        ask_again = control.encode(control.GrantRevoked(channel, user))
        arguments = (user, lifetime, self.keys.control, ask_again)
        yield from self._repeat([Call.run(scripts.GRANT, [self.keys.grant(channel)], *arguments)])

    def revoke(self, channel: str, user: str) -> Flow[bool]:
        """Take the grant back and end the subscriptions it allowed; returns whether there was one."""
        parse_channel(channel)
        check_text("user", user)
        command = control.encode(control.GrantRevoked(channel, user))
        removed, _ = yield from self._repeat(
            [
                Call(("ZREM", self.keys.grant(channel), user)),
                Call(("PUBLISH", self.keys.control, command)),
            ]
        )
        return bool(removed)

    # -- reading ------------------------------------------------------------------------------

    def history(self, channel: str, since: int = 0, limit: int | None = None) -> Flow[list[Entry]]:
        """The retained messages after id ``since``, oldest first, at most ``limit``."""
        parse_channel(channel)
        check_integer("since", since, lowest=0)
        if limit is not None:
            check_integer("limit", limit, lowest=1)
        entries: list[Entry] = []
        while limit is None or len(entries) < limit:
            size = BATCH if limit is None else min(BATCH, limit - len(entries))
            (page,) = yield from self._read([read_log(self.keys, channel, "", since, size)])
            found = parse_log(page)
            entries.extend(
                Entry(each.id, channel, orjson.loads(each.body), each.timestamp)
                for each in found.messages
            )
            if found.complete:
                break
            since = found.messages[-1].id
        return entries

    def connections(self, user: str) -> Flow[list[Connection]]:
        """The user's live connections on all living nodes, as :class:`Connection`."""
        check_text("user", user)
        reply, living = yield from self._read(
            [
                Call.run(scripts.CONNECTIONS, [self.keys.connections(user)]),
                Call.run(scripts.LIVE_NODES, [self.keys.nodes]),
            ]
        )
        found = []
        for member, expiry in zip(reply[::2], reply[1::2], strict=True):
            node, _, identifier = member.rpartition(b"/")
            # The place outlives a node that was killed, until somebody needs it.
            if node in living:
                found.append(Connection(node.decode(), identifier.decode(), int(float(expiry))))
        return found

    def ping(self) -> Flow[None]:
        """Ask Redis for something once, a thing that every publisher has the right to."""
        yield from self._once([Call(("TIME",))])

    # -- namespaces ---------------------------------------------------------------------------

    def _learn_namespaces(self, named: set[str]) -> Flow[None]:
        """Learn which namespaces the gateways have, once a minute and when a new one is ``named``."""
        fresh = self.clock() - self._learnt_at < _NAMESPACES_FRESH_SECONDS
        if fresh and named <= self.namespaces.keys():
            return
        (reply,) = yield from self._read([Call(("HGETALL", self.keys.namespaces))])
        announced = _namespaces(reply)
        if announced:
            self.namespaces = announced
        self._learnt_at = self.clock()

    def _namespace(self, name: str) -> Namespace:
        if name not in self.namespaces:
            raise UnknownNamespace(name, self.namespaces)
        return self.namespaces[name]

    # -- round trips that may be repeated freely ----------------------------------------------

    def _repeat(self, calls: Sequence[Call]) -> Flow[list[Reply]]:
        """Run calls until all are answered; twice does no more than once."""
        failures = 0
        maybe_sent = False
        while True:
            try:
                replies = yield from self._once(calls)
            except Unavailable as error:
                if error.retryable:
                    _log_failure(error)
                failures += 1
                maybe_sent = maybe_sent or error.maybe_sent
                if failures > self.retries.limit or not error.retryable:
                    raise error.told(maybe_sent=maybe_sent) from error.__cause__
            else:
                return replies
            yield self.retries.pause(failures)

    def _once(self, calls: Sequence[Call]) -> Flow[list[Reply]]:
        """One round trip, an error in place of a reply raised."""
        replies = yield RoundTrip(calls)
        errors = [reply for reply in replies if isinstance(reply, ResponseError)]
        if errors:
            error = meaning(errors[0])
            raise error.told(maybe_sent=error.maybe_sent or len(errors) < len(replies))
        return replies

    def _read(self, calls: Sequence[Call]) -> Flow[list[Reply]]:
        """Run calls that change nothing."""
        try:
            return (yield from self._repeat(calls))
        except Unavailable as error:
            raise error.told(maybe_sent=False) from error.__cause__


def _log_failure(error: Unavailable) -> None:
    """Log a try that failed, also where the next one will make it good."""
    log.warning("redis_unavailable reason=%r maybe_sent=%s", error.reason, error.maybe_sent)


def _outcome(each: Delivery | InvalidInput) -> Published | PublisherError:
    outcome = each.outcome if isinstance(each, Delivery) else each
    assert outcome is not None
    return outcome


def _namespaces(reply: Reply) -> dict[str, Namespace]:
    """Read the gateways' announcement, without what a newer gateway may have added to it."""
    # RESP3 has a type for maps, RESP2 lists keys and values in turn.
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    found: dict[str, Namespace] = {}
    for key, rules in pairs:
        name = key.decode()
        try:
            known: dict[str, Any] = orjson.loads(rules)
            known = {rule: known[rule] for rule in ("owner", "retention") if rule in known}
            found[name] = Namespace.from_dict(name, known)
        except (InvalidInput, ValueError, TypeError):
            log.warning("namespace_unreadable name=%s rules=%r", name, rules)
    return found
