"""One message on its way into Redis: what is sent for it, and what became of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import Any, Final

from redis.exceptions import ResponseError

from publisher.contract import scripts
from publisher.contract.calls import Call, Command, Reply
from publisher.contract.channels import Namespace, parse_channel
from publisher.contract.keys import Keys
from publisher.contract.message import encode_unlogged
from publisher.errors import InvalidData, NotReplicated, PublisherError, Rejected, Unavailable
from publisher.records import (
    Outgoing,
    Published,
    check_min_replicas,
    check_replica_timeout,
    check_text,
    dump_json,
)
from publisher.transport.failures import meaning

DEFAULT_MAX_MESSAGE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Options:
    """What a client asks of each publish.

    A message's JSON has at most ``max_message_bytes``; ``default`` turns what JSON cannot hold into what it can
    (:func:`publisher.records.plain` if there is none). So many as ``min_replicas`` have to confirm, within
    ``replica_timeout`` seconds.

    Raises:
        InvalidData: a number that cannot be.
    """

    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    min_replicas: int = 0
    replica_timeout: float = 1.0
    default: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        check_min_replicas(self.min_replicas)
        check_replica_timeout(self.replica_timeout)


class Publication:
    """A message with its nonce, by which Redis recognises it.

    ``name`` is one of :func:`unique_names`. ``size`` is the length of its JSON. ``doubtful_at`` is when the
    try began that may have arrived (any monotonic clock); ``None`` if certainly none has. ``place`` is its
    number in its call.

    Raises:
        InvalidInput: a bad channel, data that is no JSON or too large, a bad idempotency key or number
            of replicas.
    """

    __slots__ = (
        "_body",
        "_limits",
        "_needs_log",
        "_retention",
        "channel",
        "doubtful_at",
        "keyed",
        "min_replicas",
        "namespace",
        "nonce",
        "outcome",
        "place",
        "size",
    )

    def __init__(self, message: Outgoing | tuple[str, Any], name: str, options: Options) -> None:
        if not isinstance(message, Outgoing):
            message = _outgoing(message)
        # Neither the message nor the parsed channel is kept: of those that wait, the garbage collector
        # looks at each object again and again.
        key = message.idempotency_key
        self.channel, self.namespace, _ = parse_channel(message.channel)
        self._body = dump_json(message.data, options.max_message_bytes, options.default)
        self.size = len(self._body)
        self.keyed = key is not None
        self.nonce = name if key is None else _with_key(key, name)
        self._retention = message.retention
        self._limits: tuple[str, ...] = ()
        self._needs_log = _needs_log(message)
        self.min_replicas = options.min_replicas
        if message.min_replicas is not None:
            check_min_replicas(message.min_replicas)
            self.min_replicas = message.min_replicas
        self.doubtful_at: float | None = None
        self.outcome: Published | PublisherError | None = None
        self.place = 0

    def follow(self, namespace: Namespace) -> None:
        """Take the namespace's rules over.

        Raises:
            InvalidData: the message needs a log and the namespace keeps none.
        """
        if namespace.retention is None:
            if self._needs_log:
                raise InvalidData(
                    f"{self._needs_log} needs a log, and namespace {namespace.name!r} keeps none"
                )
            # There is nothing that a failover could lose.
            self.min_replicas = 0
            return
        own = self._retention
        self._retention = own or namespace.retention
        self._limits = self._retention.arguments
        if own is not None:
            # It trims the log. Positions are kept for the namespace's time, since others rely on them.
            positions = max(own.positions_seconds, namespace.retention.positions_seconds)
            self._limits = (*own.arguments[:2], str(positions))

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
        logged = self._retention is not None
        return outcome.retryable and (logged or not self.maybe_sent)

    @property
    def refusal(self) -> Unavailable | None:
        """What stopped the last try."""
        return self.outcome if isinstance(self.outcome, Unavailable) else None

    def call(self, keys: Keys, clock: Callable[[], int]) -> Call:
        """What to send now; ``clock`` in microseconds since 1970."""
        name, retention = self.channel, self._retention
        if retention is None:
            payload = encode_unlogged(clock(), self.nonce.encode(), self._body)
            return Call(("PUBLISH", keys.live(name), payload))
        # Text alone: numbers would be turned into text for each message, by ``pack``.
        arguments: Command = (
            "3",
            keys.log(name),
            keys.last(name),
            keys.result(name, self.nonce.partition(".")[0] if self.keyed else self.nonce),
            keys.live(name),
            self.nonce,
            self._body,
            *self._limits,
            str(retention.results_seconds) if self.keyed else "",
        )
        return Call((*arguments, "1") if self.min_replicas else arguments, scripts.PUBLISH)

    def answered(self, reply: Reply) -> None:
        """Note what Redis replied to :meth:`call`."""
        if isinstance(reply, ResponseError):
            self.failed(meaning(reply))
        elif self._retention is None:
            self.outcome = Published(0, self.channel)
        else:
            identifier, _, duplicate = reply.partition(b":")
            self.outcome = Published(int(identifier), self.channel, duplicate == b"1")

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

    def failed(self, error: Unavailable, began: float = 0.0) -> None:
        """Note that a try has failed that ``began`` at this time of a monotonic clock."""
        if error.maybe_sent and self.doubtful_at is None:
            self.doubtful_at = began
        # One object for each message: an error collects the traceback of where it is raised.
        self.outcome = error.told(maybe_sent=self.maybe_sent)


def _outgoing(message: object) -> Outgoing:
    """``(channel, data)`` is short for ``Outgoing(channel, data)``."""
    if isinstance(message, tuple) and len(message) == 2:
        return Outgoing(*message)
    raise InvalidData("a message must be an Outgoing or (channel, data)")


def _needs_log(message: Outgoing) -> str | None:
    """The option of the message that makes no sense without a log, if it has one."""
    if message.idempotency_key is not None:
        return "idempotency_key"
    if message.retention is not None:
        return "retention"
    return "min_replicas" if message.min_replicas else None


def unique_names() -> Iterator[str]:
    """Names that nothing else has, however many are taken.

    They count on from a random number, which is as unlikely to meet another as a random one for each,
    and asks the operating system once.
    """
    return (f"{number:016x}" for number in count(secrets.randbits(63)))


def _with_key(key: str, name: str) -> str:
    """The nonce under a key, ``k<key>.<name>``: the script tells a call's own try from another's."""
    check_text("idempotency_key", key)
    # A key may hold any character; the entry's format may not.
    digest = blake2b(key.encode(), digest_size=12).hexdigest()
    return f"k{digest}.{name}"
