"""One message on its way into Redis: what is sent for it, and what became of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from typing import Any, Final, NamedTuple

from redis.exceptions import ResponseError

from publisher.contract.calls import Call, Reply, further_keys
from publisher.contract.channels import Namespace, Retention, parse_channel
from publisher.contract.keys import Keys
from publisher.contract.message import encode_unlogged, lives_for
from publisher.contract.scheduling import Planned
from publisher.contract.sealing import VERSION, KeyRing, without_keys
from publisher.contract.trace_context import behind_nonce
from publisher.errors import InvalidData, NotReplicated, PublisherError, Rejected, Unavailable
from publisher.records import (
    Outgoing,
    Published,
    check_actor,
    check_min_replicas,
    check_replica_timeout,
    check_text,
    check_ttl,
    dump_json,
)
from publisher.tracing import Trace, check_traceparent
from publisher.transport.failures import meaning

DEFAULT_MAX_MESSAGE_BYTES: Final = 1024 * 1024

_parsed: Final = lru_cache(4_096)(parse_channel)


@dataclass(frozen=True, slots=True)
class Options:
    """What a client asks of each call.

    A message's JSON has at most ``max_message_bytes``; ``default`` turns what JSON cannot hold into what it can
    (:func:`publisher.records.plain` if there is none). So many as ``min_replicas`` have to confirm, within
    ``replica_timeout`` seconds. ``ring`` is for namespaces that are encrypted, ``actor`` on whose behalf access is given
    and taken.

    Raises:
        InvalidData: a number that cannot be.
    """

    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    min_replicas: int = 0
    replica_timeout: float = 1.0
    default: Callable[[Any], Any] | None = None
    ring: KeyRing | None = None
    actor: str | None = None

    def __post_init__(self) -> None:
        check_min_replicas(self.min_replicas)
        check_replica_timeout(self.replica_timeout)
        check_actor(self.actor)


class Moment(NamedTuple):
    """``here`` by a monotonic clock in seconds, ``in_redis`` by the clock of Redis in microseconds, or a little earlier."""

    here: float
    in_redis: int


_NEVER_ASKED_FOR: Final = Moment(0.0, 0)
"""Of a try that was answered: whatever became of it, it is not tried again."""


class Publication:
    """A message with its nonce, by which Redis recognises it.

    ``name`` is one of :func:`unique_names`. ``body`` is its JSON, in an encrypted namespace sealed with what ``extension`` says;
    ``size`` is the length of that. ``run`` is how it is published
    and within which limits (``publish.lua``), ``logged`` whether there is a log; ``shares``, whether it may share a call. ``result_key``
    is where a retry of its last try leaves a note. ``doubtful_at`` is when the try began that may have arrived;
    ``None`` if certainly none has. ``place`` is its number in its call. ``context`` is the trace that it belongs to, as it stands
    behind the nonce, and ``trace`` its own span.

    Raises:
        InvalidInput: a bad channel, data that is no JSON or too large, a bad idempotency key or number
            of replicas.
    """

    __slots__ = (
        "_collapse",
        "_needs_log",
        "_retention",
        "body",
        "channel",
        "context",
        "doubtful_at",
        "extension",
        "keyed",
        "logged",
        "min_replicas",
        "namespace",
        "nonce",
        "outcome",
        "place",
        "result_key",
        "run",
        "shares",
        "size",
        "trace",
    )

    def __init__(self, message: Outgoing | tuple[str, Any], name: str, options: Options) -> None:
        if isinstance(message, Outgoing):
            # Neither the message nor the parsed channel is kept: of those that wait, the garbage collector
            # looks at each object again and again.
            channel, data, key = message.channel, message.data, message.idempotency_key
            retention, min_replicas = message.retention, message.min_replicas
            collapse_key, ttl, traceparent = message.collapse_key, message.ttl, message.traceparent
            self._needs_log = _needs_log(message)
        elif isinstance(message, tuple) and len(message) == 2:
            channel, data = message
            key = retention = min_replicas = collapse_key = ttl = traceparent = None
            self._needs_log = ""
        else:
            raise InvalidData("a message must be an Outgoing or (channel, data)")
        # Only what is a string and nothing else is found again by what is equal to it.
        parse = _parsed if type(channel) is str else parse_channel
        self.channel, self.namespace, _ = parse(channel)
        self.body = dump_json(data, options.max_message_bytes, options.default)
        self.size = len(self.body)
        self.keyed = key is not None
        self.nonce = name if key is None else _with_key(key, name)
        self.extension = ""
        if ttl is not None:
            check_ttl(ttl)
            self.extension = f"+{lives_for(ttl)}"
        self.context = ""
        if traceparent is not None:
            check_traceparent(traceparent)
            self.context = behind_nonce(traceparent)
        self.trace: Trace | None = None
        self.min_replicas = options.min_replicas
        self._retention = retention
        self._collapse = "" if collapse_key is None else _digest("collapse_key", collapse_key)
        if min_replicas is not None:
            check_min_replicas(min_replicas)
            self.min_replicas = min_replicas
        self.logged = self.shares = False
        self.run = ("", "")
        self.result_key = ""
        self.doubtful_at: Moment | None = None
        self.outcome: Published | PublisherError | None = None
        self.place = 0

    def follow(self, namespace: Namespace, ring: KeyRing | None = None) -> None:
        """Take the namespace's rules over; where it is encrypted, seal the body, once for all tries.

        Raises:
            InvalidData: the message needs a log and the namespace keeps none, or it is encrypted and there is no ring.
        """
        if namespace.encrypted:
            self._seal(ring)
        kept = namespace.retention
        if kept is None:
            if self._needs_log:
                raise InvalidData(
                    f"{self._needs_log} needs a log, and namespace {namespace.name!r} keeps none"
                )
            # There is nothing that a failover could lose.
            self.min_replicas = 0
            return
        self.logged = self.shares = True
        self.run = kept.run
        if self._retention is not None:
            self.run = _own_run(self._retention, kept)
        if self.keyed or self._collapse or namespace.unconfirmed:
            how, limits = self.run
            letters = "k" * self.keyed + "c" * bool(self._collapse) + "u" * namespace.unconfirmed
            self.run = f"{how}{letters}", limits

    def _seal(self, ring: KeyRing | None) -> None:
        if ring is None:
            raise without_keys(self.namespace)
        if VERSION not in self.extension:
            self.extension = (
                f"{self.extension},{ring.extension}" if self.extension else f"+{ring.extension}"
            )
            self.body = ring.seal(self.channel, self.body)
            self.size = len(self.body)

    def belong_to(self, trace: Trace | None) -> None:
        """Name the span of the call that publishes it, if that is part of a trace."""
        if trace is not None:
            self.context = behind_nonce(trace.traceparent)

    @property
    def maybe_sent(self) -> bool:
        """Whether a try so far may have arrived."""
        return self.doubtful_at is not None

    @property
    def pending(self) -> bool:
        """Whether it is worth another try."""
        outcome = self.outcome
        if not isinstance(outcome, Unavailable) or isinstance(outcome, NotReplicated):
            return outcome is None
        # Nothing recognises a message without a log, so it is not sent twice.
        return outcome.retryable and (self.logged or not self.maybe_sent)

    @property
    def unfinished(self) -> bool:
        """Whether it is to be sent, for the first time or again."""
        return self.outcome is None or self.pending

    @property
    def refusal(self) -> Unavailable | None:
        """What stopped the last try."""
        return self.outcome if isinstance(self.outcome, Unavailable) else None

    def unlogged_call(self, keys: Keys, clock: Callable[[], int]) -> Call:
        """What to send now where no log is kept; ``clock`` in microseconds since 1970."""
        nonce = self.nonce + self.context + self.extension
        payload = encode_unlogged(clock(), nonce.encode(), self.body)
        return Call((keys.publish, keys.live(self.channel), payload))

    def further_keys(self, keys: Keys) -> list[str]:
        """Of ``publish.lua``, besides its channel's log and last id."""
        return further_keys(keys, self.channel, self.run[0], self.nonce, self._collapse)

    def planned(self) -> Planned:
        """The message as it is kept until it is published, where it has a key."""
        how, limits = self.run
        nonce = self.nonce + self.context + self.extension
        return Planned(self.channel, how, limits, self._collapse, nonce, self.body)

    def published(self, identifier: int, *, duplicate: bool = False) -> None:
        """Note that Redis has it, under this id."""
        self.outcome = Published(identifier, self.channel, duplicate)

    def answer(self) -> Published:
        """What became of it; raises the error that it is where that is one."""
        if isinstance(self.outcome, Published):
            return self.outcome
        assert self.outcome is not None, "it is still on its way"
        raise self.outcome

    def settled(self, found: bytes) -> None:
        """Note what ``settle.lua`` replied for this message."""
        if not found:
            reason = "what was published since the first try is gone, or too much to look through"
            self.outcome = Rejected(reason, maybe_sent=True)
        elif found == b"0":
            # The tries so far publish nothing any more, so the next is the first of a new name.
            self.nonce += "r"
            self.doubtful_at = self.outcome = None
        else:
            self.outcome = Published(int(found), self.channel)

    def confirmed(self, replicas: Reply, seconds: float) -> None:
        """Note how many replicas had the message after ``seconds`` of waiting: a number or an error."""
        done = self.outcome
        if not self.min_replicas or not isinstance(done, Published):
            return
        retryable, reason = True, f"no more confirmed it within {seconds:g} s"
        if isinstance(replicas, ResponseError):
            failure = meaning(replicas)
            replicas, retryable, reason = 0, failure.retryable, failure.reason
        if replicas < self.min_replicas:
            self.outcome = NotReplicated(
                reason,
                id=done.id,
                channel=done.channel,
                duplicate=done.duplicate,
                replicas=replicas,
                min_replicas=self.min_replicas,
                retryable=retryable,
            )

    def failed(self, error: Unavailable, began: Moment = _NEVER_ASKED_FOR) -> None:
        """Note that a try has failed that ``began`` then."""
        if error.maybe_sent and self.doubtful_at is None:
            self.doubtful_at = began
        # One object for each message: an error collects the traceback of where it is raised.
        self.outcome = error.told(maybe_sent=self.maybe_sent)


def _needs_log(message: Outgoing) -> str:
    """The option of a message that makes no sense without a log, if it has one."""
    for name in ("idempotency_key", "retention", "collapse_key", "ttl"):
        if getattr(message, name) is not None:
            return name
    return "min_replicas" if message.min_replicas else ""


def _own_run(own: Retention, kept: Retention) -> tuple[str, str]:
    """How a message is published whose retention replaces that of the namespace."""
    # It trims the log. That lives, and positions are kept, for the namespace's time too: others rely on it.
    longest = max(own.max_age_seconds, kept.max_age_seconds)
    positions = max(own.positions_seconds, kept.positions_seconds)
    return "o", f"{' '.join(own.limits)} {longest} {positions} {own.results_seconds}"


def unique_names() -> Iterator[str]:
    """Names that nothing else has, however many are taken.

    They count on from a random number, which is as unlikely to meet another as a random one for each,
    and asks the operating system once.
    """
    return map("{:016x}".format, count(secrets.randbits(63)))


def _with_key(key: str, name: str) -> str:
    """The nonce under a key, ``k<key>.<name>``: the script tells a call's own try from another's."""
    return f"k{_digest('idempotency_key', key)}.{name}"


def _digest(name: str, key: str) -> str:
    """What stands for a key in Redis: it may hold any character, and names and entries may not."""
    check_text(name, key)
    return blake2b(key.encode(), digest_size=12).hexdigest()
