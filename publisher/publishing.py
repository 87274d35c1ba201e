"""From the arguments of a publish to its outcome, one message or many.

One message on its way into Redis, from the arguments of a call to its outcome.

Which messages of ``publish_many`` share a round trip, and what its replies tell of the others.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import count
from typing import Final

from redis.exceptions import ResponseError

from publisher.contract import scripts
from publisher.contract.calls import Call, Reply
from publisher.contract.channels import Namespace, parse_channel
from publisher.contract.keys import Keys
from publisher.contract.message import encode_unlogged
from publisher.errors import InvalidData, NotReplicated, PublisherError, Rejected, Unavailable
from publisher.records import Outgoing, Published, check_min_replicas, check_text, dump_json
from publisher.transport.failures import meaning


class Delivery:
    """A message with the nonce that it keeps at every try, so that Redis recognises it.

    ``name`` is one of :func:`unique_names`.
    ``min_replicas`` is how many replicas must confirm it, unless the message itself says so.
    ``doubtful_at`` is when the first try began that may have arrived (any monotonic clock), and
    ``doubtful_since`` the same moment, or a little earlier, on the clock of Redis in microseconds.

    Raises:
        InvalidInput: a bad channel, data that is no JSON or too large, a bad idempotency key or number
            of replicas.
    """

    __slots__ = (
        "_body",
        "_keyed",
        "_needs_log",
        "_nonce",
        "_retention",
        "channel",
        "doubtful_at",
        "doubtful_since",
        "min_replicas",
        "namespace",
        "outcome",
    )

    def __init__(self, message: Outgoing, name: str, max_bytes: int, min_replicas: int = 0) -> None:
        # Neither the message nor the parsed channel is kept: of twenty thousand messages that wait, the
        # garbage collector looks at each object again and again.
        key = message.idempotency_key
        self.channel, self.namespace, _ = parse_channel(message.channel)
        self._body = dump_json(message.data, max_bytes)
        self._keyed = key is not None
        self._nonce = name if key is None else _with_key(key, name)
        self._retention = message.retention
        self._needs_log = _needs_log(message)
        self.min_replicas = min_replicas
        if message.min_replicas is not None:
            check_min_replicas(message.min_replicas)
            self.min_replicas = message.min_replicas
        self.doubtful_at: float | None = None
        self.doubtful_since = 0
        self.outcome: Published | PublisherError | None = None

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
        self._retention = self._retention or namespace.retention

    @property
    def maybe_sent(self) -> bool:
        """Whether a try so far may have arrived."""
        return self.doubtful_at is not None

    @property
    def max_messages(self) -> int | None:
        """How many messages the channel's log retains; ``None`` without a log."""
        return None if self._retention is None else self._retention.max_messages

    @property
    def pending(self) -> bool:
        """Whether it is worth another try."""
        outcome = self.outcome
        if not isinstance(outcome, Unavailable) or isinstance(outcome, NotReplicated):
            return outcome is None
        # Nothing recognises a message without a log, so it is not sent twice.
        logged = self._retention is not None
        return outcome.retryable and (logged or not self.maybe_sent)

    def call(self, keys: Keys, clock: Callable[[], int]) -> Call:
        """What to send now; ``clock`` in microseconds since 1970."""
        name = self.channel
        if self._retention is None:
            payload = encode_unlogged(clock(), self._nonce.encode(), self._body)
            return Call(("PUBLISH", keys.live(name), payload))
        arguments = (
            3,
            keys.log(name),
            keys.last(name),
            keys.retried(name, self._nonce),
            keys.live(name),
            self._nonce,
            self._body,
            self._retention.max_messages,
            self._retention.max_age_seconds,
            self.doubtful_since if self.maybe_sent or self._keyed else "",
            self._retention.positions_seconds,
        )
        return Call((*arguments, "1") if self.min_replicas else arguments, scripts.PUBLISH)

    def answered(self, reply: Reply) -> None:
        """Note what Redis replied."""
        if isinstance(reply, ResponseError):
            self.failed(meaning(reply))
        elif self._retention is None:
            self.outcome = Published(0, self.channel)
        else:
            identifier, _, code = reply.partition(b":")
            if code == _FORGOTTEN:
                reason = "what was published since the first try is no longer retained"
                self.outcome = Rejected(reason, maybe_sent=True)
            else:
                self.outcome = Published(int(identifier), self.channel, code == _DUPLICATE)

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


# The second part of the script's reply.
_DUPLICATE: Final = b"1"
_FORGOTTEN: Final = b"2"


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


BATCH: Final = 500
"""Messages in one round trip: enough to make its cost small, few enough to finish within a timeout."""


def next_batch(waiting: Sequence[Delivery]) -> Sequence[Delivery]:
    """Those of ``waiting``, at most a batch, that can go together.

    Where a try may have arrived, no more of a channel's messages than its log retains: they would
    displace each other there, and nobody could tell any more which of them had been published.
    """
    if not any(each.maybe_sent for each in waiting):
        return waiting
    chosen: list[Delivery] = []
    used: Counter[str] = Counter()
    full: set[str] = set()
    for each in waiting:
        name = each.channel
        if each.max_messages is not None and used[name] >= each.max_messages:
            full.add(name)
        if name not in full:
            used[name] += 1
            chosen.append(each)
    return chosen


def narrow(batch: Sequence[Delivery], waiting: Sequence[Delivery]) -> None:
    """Note what the outcomes of ``batch`` say of those that are still waiting.

    Commands of a connection are carried out in their order, so a message that comes after another of
    its channel has a higher id, if it has been published.
    """
    if not waiting:
        return
    last = {
        each.channel: each.outcome.id
        for each in batch
        if isinstance(each.outcome, Published | NotReplicated)
    }
    tried = {id(each) for each in batch}
    for each in waiting:
        before = last.get(each.channel)
        if before is not None and each.maybe_sent and id(each) not in tried:
            each.doubtful_since = max(each.doubtful_since, before + 1)
