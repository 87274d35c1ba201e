"""One message on its way into Redis, from the arguments of a call to its outcome."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import blake2b

from redis.exceptions import ResponseError

from publisher import scripts
from publisher.arguments import check_text, dump_json
from publisher.channels import Namespace, Retention, parse_channel
from publisher.errors import InvalidData, PublisherError, Unavailable
from publisher.exchange import Call, Reply, meaning
from publisher.keys import Keys
from publisher.message import encode_unlogged
from publisher.records import Outgoing, Published


class Delivery:
    """A message with the nonce that it keeps at every try, so that Redis recognises it.

    Raises:
        InvalidInput: a bad channel, data that is no JSON or too large, a bad idempotency key.
    """

    __slots__ = (
        "_body",
        "_keyed",
        "_nonce",
        "_override",
        "_retention",
        "channel",
        "maybe_sent",
        "outcome",
    )

    def __init__(self, message: Outgoing, max_bytes: int) -> None:
        key = message.idempotency_key
        self.channel = parse_channel(message.channel)
        self._body = dump_json(message.data, max_bytes)
        self._nonce = _nonce(key)
        self._keyed = key is not None
        self._override = message.retention
        self._retention: Retention | None = None
        self.maybe_sent = False
        self.outcome: Published | PublisherError | None = None

    def follow(self, namespace: Namespace) -> None:
        """Take the namespace's rules over.

        Raises:
            InvalidData: the message needs a log and the namespace keeps none.
        """
        if namespace.retention is None and (self._keyed or self._override):
            wanted = "idempotency_key" if self._keyed else "retention"
            raise InvalidData(f"{wanted} needs a log, and namespace {namespace.name!r} keeps none")
        self._retention = self._override or namespace.retention

    @property
    def pending(self) -> bool:
        """Whether it is worth another try."""
        if not isinstance(self.outcome, Unavailable):
            return self.outcome is None
        # Nothing recognises a message without a log, so it is not sent twice.
        logged = self._retention is not None
        return self.outcome.retryable and (logged or not self.maybe_sent)

    def call(self, keys: Keys, clock: Callable[[], int]) -> Call:
        """What to send now; ``clock`` in microseconds since 1970."""
        live = keys.live(self.channel.name)
        if self._retention is None:
            return Call(("PUBLISH", live, encode_unlogged(clock(), self._nonce, self._body)))
        return Call.run(
            scripts.PUBLISH,
            [keys.log(self.channel.name), keys.last(self.channel.name)],
            live,
            self._nonce,
            self._body,
            self._retention.max_messages,
            self._retention.max_age_seconds,
            "1" if self._keyed or self.maybe_sent else "",
            self._retention.positions_seconds,
        )

    def answered(self, reply: Reply) -> None:
        """Note what Redis replied."""
        if isinstance(reply, ResponseError):
            self.failed(meaning(reply))
        elif self._retention is None:
            self.outcome = Published(0, self.channel.name)
        else:
            identifier, duplicate = reply
            self.outcome = Published(int(identifier), self.channel.name, bool(duplicate))

    def failed(self, error: Unavailable) -> None:
        """Note that a try has failed."""
        self.maybe_sent = self.maybe_sent or error.maybe_sent
        # One object for each message: an error collects the traceback of where it is raised.
        self.outcome = error.told(maybe_sent=self.maybe_sent)


def _nonce(key: str | None) -> bytes:
    """``<call>`` or, with a key, ``k<key>.<call>``: the script tells a call's own try from another's."""
    call = secrets.token_hex(8).encode()
    if key is None:
        return call
    check_text("idempotency_key", key)
    # A key may hold any character; the entry's format may not.
    digest = blake2b(key.encode(), digest_size=12).hexdigest().encode()
    return b"k%b.%b" % (digest, call)
